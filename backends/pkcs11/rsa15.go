//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// DecryptSessionKeyContext decrypts RSAES-PKCS1-v1_5; see [signer.SessionKeyDecrypter].
// The token does the raw operation and the padding is looked at here, because what
// CKM_RSA_PKCS says of a padding is an oracle (Bleichenbacher, CRYPTO 1998). A key that
// may sign, or whose CEKs the token holds, is not for the raw operation and is
// ErrUnsupported.
//
// OpenKey does not try it. [signer.Version.Prove] does, for keys whose config lists the
// algorithm.
func (o opening) DecryptSessionKeyContext(ctx context.Context, ciphertext []byte, size int) ([]byte, error) {
	if !slices.Contains(o.oaepStrategies(), oaepRaw) {
		return nil, fmt.Errorf("%w: %s is decrypted by the raw operation, which this key is not for: it needs CKA_DECRYPT, without CKA_SIGN and hold_cek", signer.ErrUnsupported, signer.RSA15)
	}
	random := make([]byte, size)
	rand.Read(random)
	pub, ok := o.public.(*rsa.PublicKey)
	if !ok || !signer.FitsModulus(pub, ciphertext) {
		return random, nil
	}

	ciphertext = bytes.Clone(ciphertext) // the token may read it after the caller has left
	em, err := o.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		out := make([]byte, len(ciphertext))
		n, err := o.withPIN(func(pin []byte) (int, error) {
			return s.Decrypt(oaepRaw.mechanism(0), h, pin, ciphertext, out)
		})
		if err != nil {
			return nil, err
		}
		return padLeft(out, n), nil
	})
	switch {
	case errors.Is(err, signer.ErrDecrypt):
		return random, nil
	case err != nil:
		return nil, err
	default:
		return sessionKey(em, random), nil
	}
}

// sessionKey returns the key in an EM = 0x00 || 0x02 || PS || 0x00 || key (RFC 8017
// section 7.2.2) that is as long as random, or random if em has another form. It does not
// branch on em, and wipes it.
func sessionKey(em, random []byte) []byte {
	defer clear(em)
	const least = 3 + 8 // the three bytes and a PS of eight
	start := len(em) - len(random)
	if start < least {
		return random // depends on public lengths alone
	}

	good := subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeByteEq(em[1], 2) & subtle.ConstantTimeByteEq(em[start-1], 0)
	for _, b := range em[2 : start-1] {
		good &= 1 ^ subtle.ConstantTimeByteEq(b, 0)
	}
	subtle.ConstantTimeCopy(good, random, em[start:])
	return random
}
