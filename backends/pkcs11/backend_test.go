//go:build cgo

package pkcs11_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"strings"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/signer"
)

func mustOpen(t *testing.T, cfg pkcs11.Config) *pkcs11.Backend {
	t.Helper()
	b, err := pkcs11.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func mustOpenKey(t *testing.T, b *pkcs11.Backend, ref string) signer.Key {
	t.Helper()
	k, err := b.OpenKey(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// digestFor returns a digest of the length that alg signs.
func digestFor(alg signer.Alg) []byte {
	h := alg.Hash().New()
	h.Write([]byte("some signing input"))
	return h.Sum(nil)
}

func encryptTo(t *testing.T, pub crypto.PublicKey, alg signer.Alg, plaintext []byte) []byte {
	t.Helper()
	ct, err := rsa.EncryptOAEP(alg.Hash().New(), rand.Reader, pub.(*rsa.PublicKey), plaintext, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ct
}

// wantError checks the sentinel that a caller may rely on, and words that help an operator.
func wantError(t *testing.T, err, is error, words ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error %v, want one that wraps %v", err, is)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not contain %q", err, w)
		}
	}
}

func wantAlgs(t *testing.T, k signer.Key, want ...signer.Alg) {
	t.Helper()
	if got := k.(signer.AlgLister).Algs(); !slices.Equal(got, want) {
		t.Errorf("Algs() = %v, want %v", got, want)
	}
}

// checkSignature verifies sig with the standard library.
func checkSignature(t *testing.T, pub crypto.PublicKey, alg signer.Alg, digest, sig []byte) {
	t.Helper()

	ok := false
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(pub, digest, sig)
	case *rsa.PublicKey:
		if alg.Family() == signer.FamilyPSS {
			ok = rsa.VerifyPSS(pub, alg.Hash(), digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		} else {
			ok = rsa.VerifyPKCS1v15(pub, alg.Hash(), digest, sig) == nil
		}
	}

	if !ok {
		t.Errorf("%s: the signature does not verify", alg)
	}
}
