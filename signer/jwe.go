package signer

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"slices"

	"github.com/go-jose/go-jose/v4"
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

// DecryptJWE opens t with what it holds for r, one of its recipients. A key that
// does not unwrap, a tag that does not match and an algorithm that v is not
// pinned to give ErrDecrypt by one path: where the unwrapping fails, a random CEK
// takes the place of the result (RFC 7516 section 11.5), and the content
// decryption is what fails. Where the hardware holds on to the CEK, it gives one
// answer for both.
func (v *Version) DecryptJWE(ctx context.Context, t *SealedToken, r *Recipient) ([]byte, error) {
	plaintext, err := v.decryptContent(ctx, t, r)
	if err != nil {
		return nil, err
	}
	if !t.deflated {
		return plaintext, nil
	}
	defer clear(plaintext)
	return inflate(plaintext)
}

func (v *Version) decryptContent(ctx context.Context, t *SealedToken, r *Recipient) ([]byte, error) {
	if err := v.seen(); err != nil {
		return nil, err
	}
	if slices.Contains(v.algs, r.Alg) {
		if r.Alg == Dir {
			return v.decryptDir(ctx, t, r)
		}
		if holdsCEK(v.firstKey(), r.Alg) {
			return opened(ctx, v, func(ctx context.Context, k ContentDecrypter) ([]byte, error) {
				return k.DecryptContent(ctx, r.Alg, t.content(r))
			})
		}
	}
	size := cekSizes[jose.ContentEncryption(t.Enc)]
	cek, err := v.cekOrRandom(ctx, r, size)
	if err != nil {
		return nil, err // the backend is at fault, not the JWE
	}
	defer clear(cek)
	return decryptContent(jose.ContentEncryption(t.Enc), cek, t.content(r))
}

// cekOrRandom unwraps the CEK, or makes up another if that fails because of what
// is in the JWE.
func (v *Version) cekOrRandom(ctx context.Context, r *Recipient, size int) ([]byte, error) {
	random := make([]byte, size)
	rand.Read(random)
	if !slices.Contains(v.algs, r.Alg) {
		return random, nil
	}
	cek, err := v.UnwrapCEK(ctx, r.WrappedCEK)
	switch {
	case err == nil && len(cek) == size:
		return cek, nil
	case err == nil || errors.Is(err, ErrDecrypt):
		clear(cek)
		return random, nil
	default:
		return nil, err
	}
}

// decryptDir opens t with the shared key itself, in its hardware.
func (v *Version) decryptDir(ctx context.Context, t *SealedToken, r *Recipient) ([]byte, error) {
	secret, _ := v.public.(Secret)
	if enc := jose.ContentEncryption(t.Enc); !isGCM(enc) || cekSizes[enc] != secret.Size || len(r.EncryptedKey) != 0 {
		return nil, ErrDecrypt
	}
	c := t.content(r)
	return opened(ctx, v, func(ctx context.Context, k AEAD) ([]byte, error) {
		return k.OpenContext(ctx, c.IV, slices.Concat(c.Ciphertext, c.Tag), c.AAD)
	})
}

// maxInflated and maxRatio bound what a compressed plaintext becomes: as many
// bytes, or as many times its length if that is more. They are go-jose's.
const (
	maxInflated = 250_000
	maxRatio    = 10
)

// inflate undoes "zip":"DEF" (RFC 7516 section 4.1.3, RFC 1951).
func inflate(deflated []byte) ([]byte, error) {
	most := max(maxInflated, maxRatio*len(deflated))
	r := flate.NewReader(bytes.NewReader(deflated))
	out, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err != nil || len(out) > most {
		clear(out)
		return nil, ErrDecrypt
	}
	return out, nil
}
