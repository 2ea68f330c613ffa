package signer

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-jose/go-jose/v4"
	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// A WrappedCEK is a content encryption key as a JWE carries it, with the members of the
// header that say how it is wrapped (RFC 7518 section 4).
type WrappedCEK struct {
	Alg          Alg
	Enc          string // what the CEK is for; its length follows from it
	EncryptedKey []byte
	EPK          *ecdh.PublicKey // ECDH-ES only
	APU, APV     []byte          // ECDH-ES only
	IV, Tag      []byte          // A*GCMKW only
}

// cekSizes has the length in bytes of the CEK of each "enc" (RFC 7518 section 5.1).
var cekSizes = map[jose.ContentEncryption]int{
	jose.A128GCM: 16, jose.A192GCM: 24, jose.A256GCM: 32,
	jose.A128CBC_HS256: 32, jose.A192CBC_HS384: 48, jose.A256CBC_HS512: 64,
}

// maxCEK is the length in bytes of the longest CEK, that of A256CBC-HS512.
const maxCEK = 64

// UnwrapCEK unwraps the CEK of a JWE. The caller clears it. A CEK that does not unwrap is
// ErrDecrypt; with RSA1_5 the result is a random CEK instead, so that only the content
// tells the two apart (RFC 7516 section 11.5). An algorithm that gives no CEK away is
// ErrUnsupported: dir, and any algorithm whose CEK stays in the hardware.
func (v *Version) UnwrapCEK(ctx context.Context, w WrappedCEK) ([]byte, error) {
	if w.Alg.Use() != UseEnc {
		return nil, fmt.Errorf("%w: %.32q does not decrypt", ErrUnsupported, string(w.Alg))
	}
	if _, err := v.Alg(w.Alg); err != nil {
		return nil, err
	}
	if err := v.seen(); err != nil {
		return nil, err
	}

	switch w.Alg.Family() { //nolint:exhaustive // the others do not unwrap
	case FamilyOAEP:
		return opened(ctx, v, func(ctx context.Context, d Decrypter) ([]byte, error) {
			return d.DecryptContext(ctx, w.EncryptedKey, w.Alg.DecrypterOpts())
		})

	case FamilyRSA15:
		size := cekSizes[jose.ContentEncryption(w.Enc)]
		if size == 0 {
			return nil, fmt.Errorf("%w: enc: %s needs to know the length of the content key", ErrInvalid, w.Alg)
		}
		return opened(ctx, v, func(ctx context.Context, d SessionKeyDecrypter) ([]byte, error) {
			return d.DecryptSessionKeyContext(ctx, w.EncryptedKey, size)
		})

	case FamilyECDH:
		return v.agree(ctx, w)

	case FamilyAESKW:
		// A token may need six calls for each 8 bytes.
		if len(w.EncryptedKey) > maxCEK+8 {
			return nil, ErrDecrypt
		}
		return opened(ctx, v, func(ctx context.Context, u Wrapper) ([]byte, error) {
			return u.UnwrapContext(ctx, WrapRFC3394, w.EncryptedKey)
		})

	case FamilyGCMKW:
		return opened(ctx, v, func(ctx context.Context, a AEAD) ([]byte, error) {
			if len(w.IV) != GCMIVSize || len(w.Tag) != GCMTagSize {
				return nil, ErrDecrypt
			}
			return a.OpenContext(ctx, w.IV, slices.Concat(w.EncryptedKey, w.Tag), nil)
		})
	}
	return nil, fmt.Errorf("%w: the key does not give a CEK away with %s", ErrUnsupported, w.Alg)
}

// opened has a place of v decrypt. A failure that depends on the ciphertext is ErrDecrypt
// itself, without what a backend wrapped round it.
func opened[K Key](ctx context.Context, v *Version, open func(context.Context, K) ([]byte, error)) ([]byte, error) {
	plaintext, err := on(ctx, v, UseEnc, open, nil)
	if errors.Is(err, ErrDecrypt) {
		return nil, ErrDecrypt
	}
	if err != nil {
		return nil, fmt.Errorf("unwrap: %w", err)
	}
	return plaintext, nil
}

// agree is the recipient's side of ECDH-ES: the CEK is derived from the shared secret, or
// wrapped with a key that is.
func (v *Version) agree(ctx context.Context, w WrappedCEK) ([]byte, error) {
	own, ok := v.public.(*ecdsa.PublicKey)
	if !ok || w.EPK == nil {
		return nil, ErrDecrypt
	}
	if curve, err := own.ECDH(); err != nil || curve.Curve() != w.EPK.Curve() {
		return nil, ErrDecrypt
	}

	z, err := opened(ctx, v, func(ctx context.Context, a Agreer) ([]byte, error) { return a.AgreeContext(ctx, w.EPK) })
	if err != nil {
		return nil, err
	}
	defer clear(z)
	derived, err := deriveECDH(z, w)
	if err != nil {
		return nil, err
	}

	if w.Alg == ECDHES {
		if len(w.EncryptedKey) != 0 { // RFC 7518 section 4.6.2
			clear(derived)
			return nil, ErrDecrypt
		}
		return derived, nil
	}

	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	cek, err := josecipher.KeyUnwrap(block, w.EncryptedKey)
	if err != nil {
		return nil, ErrDecrypt
	}
	return cek, nil
}

// deriveECDH is the Concat KDF of RFC 7518 section 4.6.2 over the shared secret z.
func deriveECDH(z []byte, w WrappedCEK) ([]byte, error) {
	x, _ := w.Alg.lookup()
	id, size := string(w.Alg), x.size
	if w.Alg == ECDHES {
		id, size = w.Enc, cekSizes[jose.ContentEncryption(w.Enc)]
	}
	if size == 0 {
		return nil, ErrDecrypt
	}

	field := func(data []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...) // #nosec G115 -- a part of one request
	}
	bits := binary.BigEndian.AppendUint32(nil, uint32(size)*8) // #nosec G115 -- 64 at most
	kdf := josecipher.NewConcatKDF(crypto.SHA256, z, field([]byte(id)), field(w.APU), field(w.APV), bits, nil)
	out := make([]byte, size)
	_, err := io.ReadFull(kdf, out)
	return out, err
}

// newCEK makes a CEK for enc and wraps it for the public key pub. The caller clears it.
func newCEK(pub crypto.PublicKey, alg Alg, enc jose.ContentEncryption) (cek []byte, w WrappedCEK, err error) {
	w = WrappedCEK{Alg: alg, Enc: string(enc)}
	if err := alg.Fits(pub); err != nil {
		return nil, w, err
	}

	if key, ok := pub.(*rsa.PublicKey); ok && alg.Family() == FamilyOAEP {
		cek = randomCEK(enc)
		w.EncryptedKey, err = rsa.EncryptOAEPWithOptions(rand.Reader, key, cek, alg.DecrypterOpts())
		return cek, w, err
	}
	if key, ok := pub.(*ecdsa.PublicKey); ok && alg.Family() == FamilyECDH {
		return newAgreedCEK(key, w)
	}
	return nil, w, fmt.Errorf("%w: %s does not encrypt to a public key", ErrUnsupported, alg)
}

// newAgreedCEK is the sender's side of ECDH-ES.
func newAgreedCEK(pub *ecdsa.PublicKey, w WrappedCEK) ([]byte, WrappedCEK, error) {
	to, err := pub.ECDH()
	if err != nil {
		return nil, w, fmt.Errorf("%w: %s: the public key is not a point of its curve", ErrInvalid, w.Alg)
	}
	ephemeral, err := to.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, w, err
	}
	w.EPK = ephemeral.PublicKey()

	z, err := ephemeral.ECDH(to)
	if err != nil {
		return nil, w, err
	}
	defer clear(z)
	derived, err := deriveECDH(z, w)
	if err != nil || w.Alg == ECDHES {
		return derived, w, err
	}

	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, w, err
	}
	cek := randomCEK(jose.ContentEncryption(w.Enc))
	w.EncryptedKey, err = josecipher.KeyWrap(block, cek)
	return cek, w, err
}

// newSharedCEK makes a CEK and has the hardware wrap it with the secret of v. The caller
// clears it.
func (v *Version) newSharedCEK(ctx context.Context, alg Alg, enc jose.ContentEncryption) (cek []byte, w WrappedCEK, err error) {
	w = WrappedCEK{Alg: alg, Enc: string(enc)}
	cek = randomCEK(enc)

	switch alg.Family() { //nolint:exhaustive // the others do not wrap with a secret
	case FamilyAESKW:
		w.EncryptedKey, err = v.wrap(ctx, WrapRFC3394, cek)
	case FamilyGCMKW:
		var s sealed
		if s, err = v.seal(ctx, cek, nil); err == nil {
			w.IV = s.iv
			w.EncryptedKey, w.Tag, err = splitTag(s.text)
		}
	default:
		err = fmt.Errorf("%w: the key does not wrap with %s", ErrUnsupported, alg)
	}

	if err != nil {
		clear(cek)
		return nil, w, err
	}
	return cek, w, nil
}

func randomCEK(enc jose.ContentEncryption) []byte {
	cek := make([]byte, cekSizes[enc])
	rand.Read(cek)
	return cek
}
