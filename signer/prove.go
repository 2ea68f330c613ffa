package signer

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// proofInput is what [Version.Prove] signs. It is not a JWS signing input: no token could
// be made of the signature.
const proofInput = "signetd: proof that the private key and the public key are one pair"

var errProof = errors.New("what is encrypted to the key does not decrypt")

// Prove uses the private key once with each algorithm and checks the result with the public
// key, so that a wrong handle, an alias that points to another key, or a missing mechanism
// shows at start and not in a request. A symmetric key is made to undo what it did. What a
// [Prover] has proven already is left out: a token may take a second for each use of a key.
func (v *Version) Prove(ctx context.Context) error {
	for _, alg := range v.algs {
		if v.proven(alg) {
			continue
		}
		prove := v.proveDecrypt
		if alg.Use() == UseSig {
			prove = v.proveSign
		}
		if err := prove(ctx, alg); err != nil {
			return fmt.Errorf("prove %s: %w", alg, err)
		}
	}
	return nil
}

// proven reports whether the key in each place of v is proven with alg already.
func (v *Version) proven(alg Alg) bool {
	for _, p := range v.places {
		if k := p.key.Load(); k != nil {
			if prover, ok := (*k).(Prover); !ok || !prover.Proven(alg) {
				return false
			}
		}
	}
	return !v.Missing()
}

func (v *Version) proveSign(ctx context.Context, alg Alg) error {
	sig, err := v.SignMessage(ctx, alg, []byte(proofInput))
	if err != nil {
		return err
	}
	ok, err := v.Verify(ctx, alg, []byte(proofInput), sig) // SignMessage does not, with SkipVerify
	if err == nil && !ok {
		err = ErrVerify
	}
	return err
}

// proveDecrypt encrypts a JWE to the key and opens it.
func (v *Version) proveDecrypt(ctx context.Context, alg Alg) error {
	secret := make([]byte, 32)
	rand.Read(secret)
	encrypt := v.encryptJWE
	if alg == RSA15 {
		encrypt = v.encryptRSA15
	}
	enc := string(DefaultEnc)
	if key, ok := v.public.(Secret); ok && alg == Dir {
		enc = fmt.Sprintf("A%dGCM", 8*key.Size)
	}
	jwe, err := encrypt(ctx, alg, enc, Header{}, secret)
	if err != nil {
		return err
	}

	t, err := ParseSealed(jwe)
	if err != nil {
		return err
	}
	got, err := v.DecryptJWE(ctx, t, t.Recipients[0])
	defer clear(got)
	if errors.Is(err, ErrDecrypt) || err == nil && subtle.ConstantTimeCompare(got, secret) != 1 {
		return errProof
	}
	return err
}

// encryptRSA15 makes a JWE with RSA1_5, which [Version.EncryptJWE] refuses to do.
func (v *Version) encryptRSA15(_ context.Context, alg Alg, enc string, header Header, plaintext []byte) (string, error) {
	pub, ok := v.public.(*rsa.PublicKey)
	if !ok {
		return "", errProof
	}
	w := WrappedCEK{Alg: alg, Enc: enc}
	cek := randomCEK(jose.ContentEncryption(enc))
	defer clear(cek)
	var err error
	if w.EncryptedKey, err = rsa.EncryptPKCS1v15(rand.Reader, pub, cek); err != nil { //nolint:staticcheck // to prove that the key decrypts it
		return "", err
	}
	return seal(cek, w, v.kid, header, plaintext)
}
