//go:build linux && cgo

package load

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // #nosec G505 -- see newCrypto11
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/ThalesGroup/crypto11"
)

// A crypto11Target uses the token in the worker's own process through crypto11.
type crypto11Target struct {
	key    crypto11.Signer
	alg    string
	cipher []byte // for RSA-OAEP-256
}

func newCrypto11(j Job) (*crypto11Target, error) {
	ctx, err := crypto11.Configure(&crypto11.Config{Path: j.Module, TokenLabel: j.Token, Pin: j.PIN, MaxSessions: 64})
	if err != nil {
		return nil, err
	}
	key, err := ctx.FindKeyPair(nil, []byte(j.Key))
	if err != nil {
		return nil, err
	}

	t := &crypto11Target{key: key, alg: j.Alg}
	if pub, ok := key.Public().(*rsa.PublicKey); ok && t.alg == oaep {
		// SoftHSM2 has OAEP with SHA-1 only, and crypto11 leaves the padding to the token.
		// The private-key operation, which takes the time, is the same.
		t.cipher, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, make([]byte, 32), nil) // #nosec G401 -- see above
	}
	return t, err
}

func (t *crypto11Target) Weight() int { return 1 }

// Close leaves the module to the end of the process.
func (t *crypto11Target) Close() error { return nil }

// Client implements [Target].
func (t *crypto11Target) Client(i int) (func() error, error) {
	if t.alg == oaep {
		key, ok := t.key.(crypto11.SignerDecrypter)
		if !ok {
			return nil, errors.New("the key does not decrypt")
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
	message := SigningInput(i)
	var n uint64
	return func() error {
		n++
		binary.BigEndian.PutUint64(message, n)
		d := sha256.Sum256(message)
		_, err := t.key.Sign(rand.Reader, d[:], opts)
		return err
	}, nil
}
