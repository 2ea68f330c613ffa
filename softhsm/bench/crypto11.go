//go:build linux && cgo

package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // #nosec G505 -- see newCrypto11Target
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/ThalesGroup/crypto11"
)

// A crypto11Target uses the token in its own process through crypto11.
type crypto11Target struct {
	key    crypto11.Signer
	alg    string
	cipher []byte // for RSA-OAEP-256
}

func newCrypto11Target(j job) (*crypto11Target, error) {
	ctx, err := crypto11.Configure(&crypto11.Config{Path: j.Module, TokenLabel: j.Token, Pin: j.PIN, MaxSessions: 64})
	if err != nil {
		return nil, err
	}
	key, err := ctx.FindKeyPair(nil, []byte(j.Key))
	if err != nil {
		return nil, err
	}
	t := &crypto11Target{key: key, alg: j.Alg}
	if pub, ok := key.Public().(*rsa.PublicKey); ok && t.alg == "RSA-OAEP-256" {
		// SHA-1 is what SoftHSM2 has OAEP with, and crypto11 knows no other way. The
		// private-key operation, which takes the time, is the same.
		t.cipher, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, make([]byte, 32), nil) // #nosec G401 -- see above
	}
	return t, err
}

func (t *crypto11Target) weight() int { return 1 }

// close leaves the module to the end of the process.
func (t *crypto11Target) close() error { return nil }

// client implements target.
func (t *crypto11Target) client(i int) (func() error, error) {
	if t.alg == "RSA-OAEP-256" {
		key, ok := t.key.(crypto11.SignerDecrypter)
		if !ok {
			return nil, errors.New("not a key that decrypts")
		}
		return func() error {
			_, err := key.Decrypt(rand.Reader, t.cipher, &rsa.OAEPOptions{Hash: crypto.SHA1})
			return err
		}, nil
	}
	opts := crypto.SignerOpts(crypto.SHA256)
	if t.alg == "PS256" {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	message := signingInput(i)
	var n uint64
	return func() error {
		n++
		binary.BigEndian.PutUint64(message, n)
		d := sha256.Sum256(message)
		_, err := t.key.Sign(rand.Reader, d[:], opts)
		return err
	}, nil
}
