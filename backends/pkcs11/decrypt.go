//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// A way is how a token decrypts RSA-OAEP with one hash.
type way int

const (
	native way = iota + 1 // CKM_RSA_PKCS_OAEP
	raw                   // CKM_RSA_X_509, and the padding is undone here
)

// opening is the half of a key that implements signer.Decrypter.
type opening struct{ k *key }

// Decrypt is DecryptContext without a deadline.
func (o opening) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return o.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no ctx
}

// DecryptContext decrypts RSA-OAEP; see [signer.Decrypter].
func (o opening) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	k := o.k
	alg, err := signer.CheckCiphertext(k.public, ciphertext, opts)
	if err != nil {
		return nil, err
	}
	way, ok := k.oaep[alg.Hash()]
	if !ok {
		return nil, fmt.Errorf("%w: the token cannot decrypt %s with this key", signer.ErrUnsupported, alg)
	}
	ciphertext = bytes.Clone(ciphertext) // the token may read it after the caller has left
	return k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return k.decrypt(s, h, way, alg.Hash(), ciphertext)
	})
}

// decrypt decrypts a ciphertext that is as long as the modulus.
func (k *key) decrypt(s *session, h p11.ObjectHandle, w way, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	out := make([]byte, len(ciphertext))
	n, err := k.withPIN(func(pin []byte) (int, error) { return s.decrypt(w.mechanism(hash), h, pin, ciphertext, out) })
	switch {
	case err != nil:
		return nil, err
	case n > len(out):
		return nil, signer.ErrDecrypt
	case w == native:
		return out[:n], nil
	}
	// As long as the modulus, also where the token drops leading zeros.
	em := make([]byte, len(ciphertext))
	copy(em[len(em)-n:], out[:n])
	clear(out)
	return decodeOAEP(hash, em)
}

// mechanism is how to ask the token for w. The source of the label is given
// although there is none: some tokens insist.
func (w way) mechanism(hash crypto.Hash) mechanism {
	if w == raw {
		return mechanism{typ: p11.CKM_RSA_X_509}
	}
	t := tokenHashes[hash]
	return mechanism{p11.CKM_RSA_PKCS_OAEP, [5]uint{t.mechanism, t.mgf, p11.CKZ_DATA_SPECIFIED}, 5}
}

// proveDecryption finds for each hash a way that works, and adds it to k.oaep
// and k.algs. A way is asked for by trying: what a token says it can do is not
// what it can do with this key.
func (k *key) proveDecryption(s *session, h p11.ObjectHandle) error {
	pub, ok := k.public.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: RSA keys decrypt, and no others", signer.ErrUnsupported)
	}
	ways := []way{native, raw}
	if k.signs {
		// The raw operation also makes signatures. A key that may sign must not
		// be within reach of it.
		ways = ways[:1]
	}
	k.oaep = make(map[crypto.Hash]way)
	var refusals []error
	for _, alg := range signer.Algs(pub) {
		if alg.Use() != signer.UseEnc {
			continue
		}
		w, err := k.tryWays(ways, s, h, pub, alg.Hash())
		if err != nil && (lost(err) || errors.Is(err, signer.ErrInvalid)) {
			return fmt.Errorf("decrypt %s: %w", alg, err)
		}
		if err != nil {
			refusals = append(refusals, fmt.Errorf("decrypt %s: %w", alg, err))
			continue
		}
		k.oaep[alg.Hash()] = w
		k.algs = append(k.algs, alg)
	}
	if len(k.oaep) == 0 {
		return fmt.Errorf("%w: the token decrypts RSA-OAEP with no hash: it lacks the mechanisms, or the public half belongs to another key: %w", signer.ErrUnsupported, errors.Join(refusals...))
	}
	return nil
}

// tryWays returns the first of the ways by which the token decrypts what is
// encrypted to pub. An error that wraps ErrInvalid means that pub belongs to
// another key.
func (k *key) tryWays(ways []way, s *session, h p11.ObjectHandle, pub *rsa.PublicKey, hash crypto.Hash) (way, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return 0, err
	}
	ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, pub, secret, nil)
	if err != nil {
		return 0, err
	}
	var refusals []error
	for _, w := range ways {
		got, err := k.decrypt(s, h, w, hash, ciphertext)
		switch {
		case err == nil && bytes.Equal(got, secret):
			return w, nil
		case err == nil:
			return 0, fmt.Errorf("%w: what is encrypted to the public half decrypts to something else: it belongs to another key", signer.ErrInvalid)
		case lost(err):
			return 0, err
		}
		refusals = append(refusals, err)
	}
	return 0, errors.Join(refusals...)
}
