package signer

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// DefaultEnc is the content encryption of a JWE unless the caller asks for another one.
const DefaultEnc = jose.A256GCM

// The lengths of AES-GCM in JOSE, in bytes (RFC 7518 sections 4.7 and 5.3).
const (
	GCMIVSize  = 12
	GCMTagSize = 16
)

// EncryptJWE encrypts plaintext to v with its default algorithm, or the first other than
// RSA1_5, and returns a JWE in compact form. enc is [DefaultEnc] if empty. For a key pair
// it needs no private key and no backend; a symmetric key encrypts in its hardware.
func (v *Version) EncryptJWE(ctx context.Context, enc string, header Header, plaintext []byte) (string, error) {
	if v.Use() != UseEnc {
		return "", fmt.Errorf("%w: the key is not for encryption", ErrUnsupported)
	}
	alg, err := v.EncryptAlg()
	if err != nil {
		return "", err
	}
	return v.encryptJWE(ctx, alg, enc, header, plaintext)
}

// EncryptAlg returns the algorithm of [Version.EncryptJWE].
func (v *Version) EncryptAlg() (Alg, error) {
	if i := slices.IndexFunc(v.algs, func(a Alg) bool { return a != RSA15 }); i >= 0 {
		return v.algs[i], nil
	}
	return "", fmt.Errorf("%w: %s is only for decryption", ErrUnsupported, RSA15)
}

func (v *Version) encryptJWE(ctx context.Context, alg Alg, enc string, header Header, plaintext []byte) (string, error) {
	if err := v.seen(); err != nil {
		return "", err
	}
	if !alg.Symmetric() {
		return EncryptJWE(v.public, v.kid, alg, enc, header, plaintext)
	}
	ce, err := contentEncryption(enc)
	if err != nil {
		return "", err
	}

	if alg == Dir {
		return v.encryptDir(ctx, ce, header, plaintext)
	}
	cek, w, err := v.newSharedCEK(ctx, alg, ce)
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	defer clear(cek)
	return seal(cek, w, v.kid, header, plaintext)
}

// EncryptJWE encrypts plaintext to the public key pub, an RSA key or a key on P-256, P-384
// or P-521, and returns a JWE in compact form (RFC 7516 section 7.1). enc is [DefaultEnc]
// if empty; kid may be empty.
func EncryptJWE(pub crypto.PublicKey, kid string, alg Alg, enc string, header Header, plaintext []byte) (string, error) {
	// go-jose does not encrypt with RSA-OAEP-384 and -512, so the message is assembled
	// here. The ciphers are those of the standard library and of go-jose.
	ce, err := contentEncryption(enc)
	if err != nil {
		return "", err
	}
	cek, w, err := newCEK(pub, alg, ce)
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	defer clear(cek)
	return seal(cek, w, kid, header, plaintext)
}

func contentEncryption(enc string) (jose.ContentEncryption, error) {
	if enc == "" {
		return DefaultEnc, nil
	}
	if _, ok := cekSizes[jose.ContentEncryption(enc)]; !ok {
		return "", fmt.Errorf("%w: content encryption %.32q", ErrUnsupported, enc)
	}
	return jose.ContentEncryption(enc), nil
}

// seal encrypts the content with cek, which w wraps.
func seal(cek []byte, w WrappedCEK, kid string, header Header, plaintext []byte) (string, error) {
	head, err := protect(w, kid, header)
	if err != nil {
		return "", err
	}
	aead, err := contentCipher(jose.ContentEncryption(w.Enc), cek)
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}

	iv := make([]byte, aead.NonceSize())
	rand.Read(iv)
	sealed := aead.Seal(nil, iv, plaintext, []byte(head)) // #nosec G407 -- iv is random
	tag := len(sealed) - tagSize(len(cek), aead)
	return compactJWE(head, w.EncryptedKey, iv, sealed[:tag], sealed[tag:]), nil
}

// encryptDir encrypts the content with the secret of v itself, in its hardware.
func (v *Version) encryptDir(ctx context.Context, enc jose.ContentEncryption, header Header, plaintext []byte) (string, error) {
	secret, _ := v.public.(Secret)
	if !isGCM(enc) || cekSizes[enc] != secret.Size {
		return "", fmt.Errorf("%w: dir with a key of %d bytes does not encrypt with %s", ErrUnsupported, secret.Size, enc)
	}
	head, err := protect(WrappedCEK{Alg: Dir, Enc: string(enc)}, v.kid, header)
	if err != nil {
		return "", err
	}

	s, err := v.seal(ctx, plaintext, []byte(head))
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	ciphertext, tag, err := splitTag(s.text)
	if err != nil {
		return "", err
	}
	return compactJWE(head, nil, s.iv, ciphertext, tag), nil
}

// protect makes the protected header, in base64url.
func protect(w WrappedCEK, kid string, header Header) (string, error) {
	h := struct {
		Alg Alg              `json:"alg"`
		Enc string           `json:"enc"`
		KID string           `json:"kid,omitempty"`
		Typ string           `json:"typ,omitempty"`
		Cty string           `json:"cty,omitempty"`
		EPK *jose.JSONWebKey `json:"epk,omitempty"`
		IV  string           `json:"iv,omitempty"`
		Tag string           `json:"tag,omitempty"`
	}{Alg: w.Alg, Enc: w.Enc, KID: kid, Typ: header.Typ, Cty: header.Cty, IV: b64(w.IV), Tag: b64(w.Tag)}

	if w.EPK != nil {
		curve, ok := curveOf(w.EPK.Curve())
		if !ok {
			return "", fmt.Errorf("%w: a curve other than P-256, P-384 and P-521", ErrUnsupported)
		}
		pub, ok := ParsePoint(curve, w.EPK.Bytes())
		if !ok {
			return "", errors.New("header: the ephemeral key is not a point of its curve")
		}
		h.EPK = &jose.JSONWebKey{Key: pub}
	}

	protected, err := json.Marshal(h)
	if err != nil {
		return "", fmt.Errorf("header: %w", err)
	}
	return b64(protected), nil
}

func compactJWE(head string, encryptedKey, iv, ciphertext, tag []byte) string {
	return head + "." + b64(encryptedKey) + "." + b64(iv) + "." + b64(ciphertext) + "." + b64(tag)
}

// FlattenJWE turns a JWE in compact form into the flattened JSON serialization (RFC 7516
// section 7.2.2), or if general is set into the general one with one recipient.
func FlattenJWE(compact string, general bool) string {
	var p [5]string
	copy(p[:], strings.SplitN(compact, ".", len(p)))
	key := `"encrypted_key":"` + p[1] + `"`
	if general {
		key = `"recipients":[{` + key + `}]`
	}
	return `{"protected":"` + p[0] + `",` + key + `,"iv":"` + p[2] + `","ciphertext":"` + p[3] + `","tag":"` + p[4] + `"}`
}

// openContent decrypts the content of a JWE with its CEK. Its error is always ErrDecrypt.
func openContent(enc jose.ContentEncryption, cek []byte, c Content) ([]byte, error) {
	aead, err := contentCipher(enc, cek)
	if err != nil || len(c.IV) != aead.NonceSize() || len(c.Tag) != tagSize(len(cek), aead) {
		return nil, ErrDecrypt
	}
	plaintext, err := aead.Open(nil, c.IV, slices.Concat(c.Ciphertext, c.Tag), c.AAD)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

// contentCipher returns the AEAD of enc with the key cek (RFC 7518 section 5).
func contentCipher(enc jose.ContentEncryption, cek []byte) (cipher.AEAD, error) {
	if !isGCM(enc) {
		return josecipher.NewCBCHMAC(cek, aes.NewCipher)
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// isGCM reports whether enc is AES-GCM. The others are CBC with HMAC.
func isGCM(enc jose.ContentEncryption) bool {
	return enc == jose.A128GCM || enc == jose.A192GCM || enc == jose.A256GCM
}

// tagSize returns the length of the authentication tag: 16 bytes for GCM, half of the CEK
// for CBC with HMAC (RFC 7518 section 5.2).
func tagSize(cekSize int, aead cipher.AEAD) int {
	if aead.NonceSize() == aes.BlockSize {
		return cekSize / 2 // the Overhead of go-jose's CBC cipher counts the padding, too
	}
	return aead.Overhead()
}
