package signer

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// DefaultEnc is the content encryption of a JWE for which none is asked.
const DefaultEnc = jose.A256GCM

// cekSizes is the length in bytes of the content encryption key of each "enc"
// (RFC 7518 section 5.1).
var cekSizes = map[jose.ContentEncryption]int{
	jose.A128GCM: 16, jose.A192GCM: 24, jose.A256GCM: 32,
	jose.A128CBC_HS256: 32, jose.A192CBC_HS384: 48, jose.A256CBC_HS512: 64,
}

var contentEncryptions = []jose.ContentEncryption{
	jose.A128GCM, jose.A192GCM, jose.A256GCM, jose.A128CBC_HS256, jose.A192CBC_HS384, jose.A256CBC_HS512,
}

var keyAlgs = func() (algs []jose.KeyAlgorithm) {
	for _, x := range algorithms {
		if x.alg.Use() == UseEnc {
			algs = append(algs, jose.KeyAlgorithm(x.alg))
		}
	}
	return algs
}()

// A SealedToken is a JWE (RFC 7516) that has not been opened.
type SealedToken struct {
	KID    string
	Alg    Alg
	Enc    string
	Header Header
	jwe    *jose.JSONWebEncryption
}

// ParseSealed reads a JWE in compact or flattened JSON form. Whatever is wrong
// with it, the error is ErrDecrypt.
func ParseSealed(jwe string) (*SealedToken, error) {
	parse, ok := jose.ParseEncryptedCompact, canonical(jwe)
	if strings.HasPrefix(strings.TrimSpace(jwe), "{") {
		parse, ok = jose.ParseEncryptedJSON, true
	}
	obj, err := parse(jwe, keyAlgs, contentEncryptions)
	if err != nil || !ok {
		return nil, ErrDecrypt
	}
	text := func(name jose.HeaderKey) string {
		s, _ := obj.Header.ExtraHeaders[name].(string)
		return s
	}
	return &SealedToken{
		KID: obj.Header.KeyID, Alg: Alg(obj.Header.Algorithm), Enc: text("enc"),
		Header: Header{Typ: text(jose.HeaderType), Cty: text(jose.HeaderContentType)},
		jwe:    obj,
	}, nil
}

// DecryptJWE opens t. A key that does not unwrap, a tag that does not match and
// an algorithm that v is not pinned to give ErrDecrypt by one path: where the
// unwrapping fails, a random CEK takes the place of the result (RFC 7516
// section 11.5), and the content decryption is what fails.
func (v *Version) DecryptJWE(ctx context.Context, t *SealedToken) ([]byte, error) {
	u := &unwrapper{ctx: ctx, version: v, size: cekSizes[jose.ContentEncryption(t.Enc)]}
	plaintext, err := t.jwe.Decrypt(u)
	if u.err != nil {
		return nil, u.err // the backend is at fault, not the JWE
	}
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

// unwrapper is the version of a key as go-jose wants it. It lives for one
// decryption; its context is a field since the interface has none.
type unwrapper struct {
	ctx     context.Context //nolint:containedctx // jose.OpaqueKeyDecrypter takes no context
	version *Version
	size    int
	err     error
}

// DecryptKey implements [jose.OpaqueKeyDecrypter].
func (u *unwrapper) DecryptKey(encryptedKey []byte, header jose.Header) ([]byte, error) {
	random := make([]byte, u.size)
	rand.Read(random)
	if !slices.Contains(u.version.algs, Alg(header.Algorithm)) {
		return random, nil
	}
	cek, err := u.version.Unwrap(u.ctx, Alg(header.Algorithm), encryptedKey)
	switch {
	case err == nil && len(cek) == u.size:
		return cek, nil
	case err == nil || errors.Is(err, ErrDecrypt):
		clear(cek)
		return random, nil
	default:
		u.err = err
		return nil, err
	}
}

// EncryptJWE encrypts plaintext to the public key of v with its default
// algorithm. It needs no private key and no backend.
func (v *Version) EncryptJWE(enc string, header Header, plaintext []byte) (string, error) {
	if v.Use() != UseEnc {
		return "", fmt.Errorf("%w: the key is not for encryption", ErrUnsupported)
	}
	return EncryptJWE(v.key.Public(), v.kid, v.algs[0], enc, header, plaintext)
}

// EncryptJWE encrypts plaintext to the RSA public key pub and returns a JWE in
// compact form (RFC 7516 section 7.1). enc is "A256GCM" if empty; kid may be
// empty. The message is assembled here since go-jose does not encrypt with
// RSA-OAEP-384 and -512; the ciphers are the standard library's and go-jose's.
func EncryptJWE(pub crypto.PublicKey, kid string, alg Alg, enc string, header Header, plaintext []byte) (string, error) {
	if enc == "" {
		enc = string(DefaultEnc)
	}
	size, ok := cekSizes[jose.ContentEncryption(enc)]
	if !ok {
		return "", fmt.Errorf("%w: content encryption %.32q", ErrUnsupported, enc)
	}
	cek := make([]byte, size)
	defer clear(cek)
	rand.Read(cek)
	encryptedKey, err := encryptOAEP(pub, alg, cek)
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	protected, err := json.Marshal(struct {
		Alg Alg    `json:"alg"`
		Enc string `json:"enc"`
		KID string `json:"kid,omitempty"`
		Typ string `json:"typ,omitempty"`
		Cty string `json:"cty,omitempty"`
	}{alg, enc, kid, header.Typ, header.Cty})
	if err != nil {
		return "", fmt.Errorf("header: %w", err)
	}
	aead, err := contentCipher(jose.ContentEncryption(enc), cek)
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	head := b64(protected)
	iv := make([]byte, aead.NonceSize())
	rand.Read(iv)
	sealed := aead.Seal(nil, iv, plaintext, []byte(head))
	tag := len(sealed) - tagSize(size, aead)
	return head + "." + b64(encryptedKey) + "." + b64(iv) + "." + b64(sealed[:tag]) + "." + b64(sealed[tag:]), nil
}

// contentCipher returns the AEAD of enc with the key cek (RFC 7518 section 5).
func contentCipher(enc jose.ContentEncryption, cek []byte) (cipher.AEAD, error) {
	switch enc { //nolint:exhaustive // these three share a cipher, all others are GCM
	case jose.A128CBC_HS256, jose.A192CBC_HS384, jose.A256CBC_HS512:
		return josecipher.NewCBCHMAC(cek, aes.NewCipher)
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// tagSize is the length of the authentication tag: 16 bytes for GCM, half of the
// CEK for CBC with HMAC (RFC 7518 section 5.2). The Overhead of go-jose's CBC
// cipher counts the padding too.
func tagSize(cekSize int, aead cipher.AEAD) int {
	if aead.NonceSize() == aes.BlockSize {
		return cekSize / 2
	}
	return aead.Overhead()
}
