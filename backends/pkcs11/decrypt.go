//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// A way is how a token decrypts RSA-OAEP with one hash.
type way int

// The ways, in the order in which they are tried.
const (
	native          way = iota + 1 // C_Decrypt with CKM_RSA_PKCS_OAEP
	unwrapped                      // C_UnwrapKey with that, and the new key is read
	unwrappedUnsaid                // the same, with a template that does not ask for a key that may be read
	raw                            // C_Decrypt with CKM_RSA_X_509, and the padding is undone here
	held                           // C_UnwrapKey, and the content is decrypted in the token
	heldUnsaid                     // the same, with a template that leaves it to the token what becomes of the key
)

// holds reports whether the CEK stays in the token.
func (w way) holds() bool { return w == held || w == heldUnsaid }

// opening is the half of a key that implements signer.ContentDecrypter.
type opening struct{ k *key }

// Decrypt is DecryptContext without a deadline.
func (o opening) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return o.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no ctx
}

// DecryptContext decrypts RSA-OAEP; see [signer.Decrypter].
func (o opening) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	alg, err := signer.CheckCiphertext(o.k.public, ciphertext, opts)
	if err != nil {
		return nil, err
	}
	way, err := o.way(alg)
	if err != nil {
		return nil, err
	}
	if way.holds() {
		return nil, fmt.Errorf("%w: the CEK of %s stays in the token, which decrypts the content with it", signer.ErrUnsupported, alg)
	}
	ciphertext = bytes.Clone(ciphertext) // the token may read it after the caller has left
	return o.k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return o.k.decrypt(s, h, way, alg.Hash(), ciphertext)
	})
}

func (o opening) way(alg signer.Alg) (way, error) {
	w, ok := o.k.oaep[alg.Hash()]
	if !ok || alg.Family() != signer.FamilyOAEP {
		return 0, fmt.Errorf("%w: the token cannot decrypt %.32q with this key", signer.ErrUnsupported, string(alg))
	}
	return w, nil
}

// decrypt decrypts a ciphertext that is as long as the modulus.
func (k *key) decrypt(s *session, h p11.ObjectHandle, w way, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	out := make([]byte, len(ciphertext))
	m := w.mechanism(hash)
	n, err := k.withPIN(func(pin []byte) (int, error) {
		switch w { //nolint:exhaustive // holds were ruled out
		case unwrapped:
			return s.unwrap(m, h, object{access: readable}, ciphertext, out)
		case unwrappedUnsaid:
			return s.unwrap(m, h, object{access: unsaid}, ciphertext, out)
		default:
			return s.decrypt(m, h, pin, ciphertext, out)
		}
	})
	switch {
	case err != nil:
		return nil, err
	case n > len(out):
		return nil, signer.ErrDecrypt
	case w != raw:
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

// HoldsCEK implements [signer.ContentDecrypter].
func (o opening) HoldsCEK(alg signer.Alg) bool {
	w, err := o.way(alg)
	return err == nil && w.holds()
}

// cekSizes are the content encryptions that a token does by itself, with the
// length of their keys in bytes.
var cekSizes = map[string]int{"A128GCM": 16, "A192GCM": 24, "A256GCM": 32}

// DecryptContent unwraps the CEK and decrypts the content in the token; see
// [signer.ContentDecrypter].
//
// Whether the CEK or the content was at fault does not show in the error. It may
// show in the time, since nothing is left to do when there is no CEK. With OAEP
// that says no more than the encrypted key itself: whether whoever made it knew
// what is in it.
func (o opening) DecryptContent(ctx context.Context, alg signer.Alg, c signer.Content) ([]byte, error) {
	w, err := o.way(alg)
	if err != nil {
		return nil, err
	}
	size, known := cekSizes[c.Enc]
	if !w.holds() || !known {
		return nil, fmt.Errorf("%w: the token decrypts no content of %.32q with a CEK of %s", signer.ErrUnsupported, c.Enc, alg)
	}
	if _, err := signer.CheckCiphertext(o.k.public, c.EncryptedKey, alg.DecrypterOpts()); err != nil {
		return nil, err
	}
	if len(c.IV) != signer.GCMIVSize || len(c.Tag) != signer.GCMTagSize {
		return nil, signer.ErrDecrypt
	}
	in := content{bytes.Clone(c.EncryptedKey), gcm{bytes.Clone(c.IV), bytes.Clone(c.AAD)}, slices.Concat(c.Ciphertext, c.Tag), size}
	return o.k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return o.k.decryptContent(s, h, w, alg.Hash(), in)
	})
}

// content is what a token needs to decrypt the content of a JWE.
type content struct {
	encryptedKey []byte
	gcm          gcm
	sealed       []byte // the tag at its end
	size         int    // of the CEK
}

func (k *key) decryptContent(s *session, h p11.ObjectHandle, w way, hash crypto.Hash, c content) ([]byte, error) {
	o := object{access: hidden}
	if w == heldUnsaid {
		o.access = unsaid
	}
	out := make([]byte, len(c.sealed)) // tokens want more than the plaintext needs
	n, err := s.openWithin(w.mechanism(hash), h, o, c.size, c.encryptedKey, c.gcm, c.sealed, out)
	if err != nil {
		return nil, err
	}
	return exactly(out, n, len(c.sealed)-signer.GCMTagSize)
}

// ways are those to try, as the key's attributes have it and the configuration.
func (k *key) ways() (ways []way) {
	if k.may.decrypt && !k.backend.cfg.HoldCEK {
		ways = append(ways, native)
	}
	if k.may.unwrap && !k.backend.cfg.HoldCEK {
		ways = append(ways, unwrapped, unwrappedUnsaid)
	}
	// The raw operation also makes signatures. A key that may sign must not be
	// within reach of it.
	if k.may.decrypt && !k.may.sign && !k.backend.cfg.HoldCEK {
		ways = append(ways, raw)
	}
	if k.may.unwrap {
		ways = append(ways, held, heldUnsaid)
	}
	return ways
}

// proveDecryption finds for each hash a way that works, and adds it to k.oaep
// and k.algs.
func (k *key) proveDecryption(t *trial) error {
	pub, ok := k.public.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: RSA keys decrypt, and no others", signer.ErrUnsupported)
	}
	if len(k.ways()) == 0 {
		return fmt.Errorf("%w: with hold_cek the key needs CKA_UNWRAP", signer.ErrUnsupported)
	}
	k.oaep = make(map[crypto.Hash]way)
	var refusals []error
	for _, alg := range signer.Algs(pub) {
		if alg.Use() != signer.UseEnc {
			continue
		}
		w, err := k.tryWays(t, pub, alg.Hash())
		if final(err) {
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

// tryWays returns the first way by which the token decrypts what is encrypted to
// pub. An error that wraps ErrInvalid means that pub belongs to another key.
func (k *key) tryWays(t *trial, pub *rsa.PublicKey, hash crypto.Hash) (way, error) {
	secret := make([]byte, 32)
	rand.Read(secret)
	ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, pub, secret, nil)
	if err != nil {
		return 0, err
	}
	var refusals []error
	for _, w := range k.ways() {
		var got []byte
		err := t.run(func(s *session, h p11.ObjectHandle) (err error) {
			if w.holds() {
				got, err = k.decryptProof(s, h, w, hash, ciphertext, secret)
			} else {
				got, err = k.decrypt(s, h, w, hash, ciphertext)
			}
			return err
		})
		switch {
		case err == nil && bytes.Equal(got, secret):
			return w, nil
		case err == nil:
			return 0, fmt.Errorf("%w: what is encrypted to the public half decrypts to something else: it belongs to another key", signer.ErrInvalid)
		case final(err):
			return 0, err
		}
		refusals = append(refusals, fmt.Errorf("%v: %w", w, err))
	}
	return 0, errors.Join(refusals...)
}

// decryptProof has the token hold on to a CEK and decrypt something with it, which
// is the CEK itself.
func (k *key) decryptProof(s *session, h p11.ObjectHandle, w way, hash crypto.Hash, encryptedKey, cek []byte) ([]byte, error) {
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	iv := make([]byte, signer.GCMIVSize) // the key is used once
	return k.decryptContent(s, h, w, hash, content{encryptedKey, gcm{iv, []byte(proofMessage)}, aead.Seal(nil, iv, cek, []byte(proofMessage)), len(cek)})
}

// String says how the token does it and what is left to do here.
func (w way) String() string {
	switch w {
	case native:
		return "CKM_RSA_PKCS_OAEP"
	case unwrapped, unwrappedUnsaid:
		return "C_UnwrapKey with CKM_RSA_PKCS_OAEP; the new key read and destroyed"
	case raw:
		return "CKM_RSA_X_509; raw RSA, and the padding decoded here"
	case held, heldUnsaid:
		return "C_UnwrapKey with CKM_RSA_PKCS_OAEP, then CKM_AES_GCM; the CEK stays in the token"
	}
	return ""
}

// exactly returns the n bytes that a token put into out, which must be want.
func exactly(out []byte, n, want int) ([]byte, error) {
	if n != want {
		clear(out)
		return nil, fmt.Errorf("%w: pkcs11: the token answered %d bytes, not %d", signer.ErrUnavailable, n, want)
	}
	return out[:n], nil
}
