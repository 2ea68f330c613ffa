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

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
)

// opening is a key that implements signer.ContentDecrypter and
// signer.SessionKeyDecrypter.
type opening struct{ *key }

var (
	_ signer.ContentDecrypter    = opening{}
	_ signer.SessionKeyDecrypter = opening{}
)

// Decrypt is DecryptContext without a deadline.
func (o opening) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return o.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no ctx
}

// DecryptContext decrypts RSA-OAEP; see [signer.Decrypter].
func (o opening) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	alg, err := signer.CheckCiphertext(o.public, ciphertext, opts)
	if err != nil {
		return nil, err
	}
	strategy, err := o.strategy(alg)
	if err != nil {
		return nil, err
	}
	if strategy.holdsCEK() {
		return nil, fmt.Errorf("%w: the CEK of %s stays in the token, which decrypts the content with it", signer.ErrUnsupported, alg)
	}

	ciphertext = bytes.Clone(ciphertext) // the token may read it after the caller has left
	return o.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return o.decrypt(s, h, strategy, alg.Hash(), ciphertext)
	})
}

func (o opening) strategy(alg signer.Alg) (oaepStrategy, error) {
	strategy, ok := o.opens[alg.Hash()]
	if !ok || alg.Family() != signer.FamilyOAEP {
		return 0, fmt.Errorf("%w: the token cannot decrypt %.32q with this key", signer.ErrUnsupported, string(alg))
	}
	return strategy, nil
}

// decrypt decrypts a ciphertext that is as long as the modulus. The strategy is not one
// that holds the CEK.
func (k *key) decrypt(s *session, h p11.ObjectHandle, strategy oaepStrategy, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	out := make([]byte, len(ciphertext))
	m := strategy.mechanism(hash)

	n, err := k.withPIN(func(pin []byte) (int, error) {
		switch strategy { //nolint:exhaustive // see above
		case oaepUnwrap:
			return s.Unwrap(m, h, cryptoki.Object{Access: cryptoki.Readable}, ciphertext, out)
		case oaepUnwrapUnspecified:
			return s.Unwrap(m, h, cryptoki.Object{Access: cryptoki.Unspecified}, ciphertext, out)
		default:
			return s.Decrypt(m, h, pin, ciphertext, out)
		}
	})

	switch {
	case err != nil:
		return nil, err
	case strategy == oaepRaw:
		return decodeOAEP(hash, padLeft(out, n))
	default:
		return out[:n], nil
	}
}

// HoldsCEK implements [signer.ContentDecrypter].
func (o opening) HoldsCEK(alg signer.Alg) bool {
	strategy, err := o.strategy(alg)
	return err == nil && strategy.holdsCEK()
}

// contentKeySizes holds the content encryptions that a token can do, with the length of
// their keys in bytes (RFC 7518 section 5.3). PKCS#11 has no mechanism for AES-CBC with HMAC.
var contentKeySizes = map[string]int{"A128GCM": 16, "A192GCM": 24, "A256GCM": 32}

// DecryptContent unwraps the CEK and decrypts the content in the token; see
// [signer.ContentDecrypter].
//
// Whether the CEK or the content was at fault does not show in the error. It may show in
// the time, since nothing is left to do when there is no CEK. With OAEP that says no more
// than the encrypted key does by itself: whether its maker knew what is in it.
func (o opening) DecryptContent(ctx context.Context, alg signer.Alg, c signer.Content) ([]byte, error) {
	strategy, err := o.strategy(alg)
	if err != nil {
		return nil, err
	}
	size, known := contentKeySizes[c.Enc]
	if !strategy.holdsCEK() || !known {
		return nil, fmt.Errorf("%w: the token decrypts no content of %.32q with a CEK of %s", signer.ErrUnsupported, c.Enc, alg)
	}
	if _, err := signer.CheckCiphertext(o.public, c.EncryptedKey, alg.DecrypterOpts()); err != nil {
		return nil, err
	}
	if len(c.IV) != signer.GCMIVSize || len(c.Tag) != signer.GCMTagSize {
		return nil, signer.ErrDecrypt
	}

	// Copies: the token may read them after the caller has left.
	in := content{
		encryptedKey: bytes.Clone(c.EncryptedKey),
		gcm:          cryptoki.GCM{IV: bytes.Clone(c.IV), AAD: bytes.Clone(c.AAD)},
		sealed:       slices.Concat(c.Ciphertext, c.Tag),
		size:         size,
	}
	return o.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return o.decryptContent(s, h, strategy, alg.Hash(), in)
	})
}

// content is what a token needs to decrypt the content of a JWE.
type content struct {
	encryptedKey []byte
	gcm          cryptoki.GCM
	sealed       []byte // the ciphertext and the tag
	size         int    // of the CEK in bytes
}

func (k *key) decryptContent(s *session, h p11.ObjectHandle, strategy oaepStrategy, hash crypto.Hash, c content) ([]byte, error) {
	o := cryptoki.Object{Access: cryptoki.Hidden}
	if strategy == oaepHoldUnspecified {
		o.Access = cryptoki.Unspecified
	}
	out := make([]byte, len(c.sealed)) // tokens want more than the plaintext needs
	n, err := s.UnwrapAndOpen(strategy.mechanism(hash), h, o, c.size, c.encryptedKey, c.gcm, c.sealed, out)
	if err != nil {
		return nil, err
	}
	return exactly(out, n, len(c.sealed)-signer.GCMTagSize)
}

// oaepStrategies are those to try, as the key's attributes and the config allow.
func (k *key) oaepStrategies() (list []oaepStrategy) {
	readsCEK := !k.backend.cfg.HoldCEK
	if k.may.decrypt && readsCEK {
		list = append(list, oaepDecrypt)
	}
	if k.may.unwrap && readsCEK {
		list = append(list, oaepUnwrap, oaepUnwrapUnspecified)
	}

	// The raw operation also makes signatures. A key that may sign must not be within
	// reach of it.
	if k.may.decrypt && !k.may.sign && readsCEK {
		list = append(list, oaepRaw)
	}

	if k.may.unwrap {
		list = append(list, oaepHold, oaepHoldUnspecified)
	}
	return list
}

// probeDecryption finds a strategy that works for each hash.
func (k *key) probeDecryption(p *probe) error {
	pub, ok := k.public.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: RSA keys decrypt, and no others", signer.ErrUnsupported)
	}
	if len(k.oaepStrategies()) == 0 {
		return fmt.Errorf("%w: with hold_cek the key needs CKA_UNWRAP", signer.ErrUnsupported)
	}

	k.opens = make(map[crypto.Hash]oaepStrategy)
	var refusals []error
	for _, alg := range signer.Algs(pub) {
		if alg.Use() != signer.UseEnc {
			continue
		}
		strategy, err := k.probeOAEP(p, pub, alg.Hash())
		if final(err) {
			return fmt.Errorf("decrypt %s: %w", alg, err)
		}
		if err != nil {
			refusals = append(refusals, fmt.Errorf("decrypt %s: %w", alg, err))
			continue
		}
		k.opens[alg.Hash()] = strategy
		k.algs = append(k.algs, alg)
	}
	if len(k.opens) == 0 {
		return fmt.Errorf("%w: the token decrypts RSA-OAEP with no hash: it lacks the mechanisms, or the public half belongs to another key: %w", signer.ErrUnsupported, errors.Join(refusals...))
	}
	return nil
}

// probeOAEP returns the first strategy by which the token decrypts what is encrypted to
// pub. An error that wraps ErrInvalid means that pub belongs to another key.
func (k *key) probeOAEP(p *probe, pub *rsa.PublicKey, hash crypto.Hash) (oaepStrategy, error) {
	secret := probeSecret()
	ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, pub, secret, nil)
	if err != nil {
		return 0, err
	}

	var refusals []error
	for _, strategy := range k.oaepStrategies() {
		var got []byte
		err := p.run(func(s *session, h p11.ObjectHandle) (err error) {
			if strategy.holdsCEK() {
				got, err = k.decryptProbe(s, h, strategy, hash, ciphertext, secret)
			} else {
				got, err = k.decrypt(s, h, strategy, hash, ciphertext)
			}
			return err
		})
		switch {
		case err == nil && bytes.Equal(got, secret):
			return strategy, nil
		case err == nil:
			return 0, fmt.Errorf("%w: what is encrypted to the public half decrypts to something else: it belongs to another key", signer.ErrInvalid)
		case final(err):
			return 0, err
		}
		refusals = append(refusals, fmt.Errorf("%v: %w", strategy, err))
	}
	return 0, errors.Join(refusals...)
}

// decryptProbe has the token hold a CEK and decrypt something with it, which is the CEK
// itself.
func (k *key) decryptProbe(s *session, h p11.ObjectHandle, strategy oaepStrategy, hash crypto.Hash, encryptedKey, cek []byte) ([]byte, error) {
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	iv := make([]byte, signer.GCMIVSize) // zero: the key is used once
	sealed := aead.Seal(nil, iv, cek, []byte(probeMessage))
	return k.decryptContent(s, h, strategy, hash, content{encryptedKey, cryptoki.GCM{IV: iv, AAD: []byte(probeMessage)}, sealed, len(cek)})
}
