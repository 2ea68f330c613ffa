package signer_test

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"signetd/backends/software"
	"signetd/signer"
	"signetd/signer/p256"
)

func open(t testing.TB, ref string) signer.Key {
	t.Helper()
	b, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	k, err := b.OpenKey(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func version(t testing.TB, ref string, algs ...signer.Alg) *signer.Version {
	t.Helper()
	v, err := signer.NewVersion(open(t, ref), signer.VersionConfig{Algs: algs, VerifyES256: p256.Verifier, Places: []signer.PlaceConfig{{Backend: "memory"}}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestThumbprint is the example of RFC 7638 section 3.1.
func TestThumbprint(t *testing.T) {
	n, err := base64.RawURLEncoding.DecodeString("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")
	if err != nil {
		t.Fatal(err)
	}
	got, err := signer.Thumbprint(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
	if want := "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"; err != nil || got != want {
		t.Errorf("Thumbprint() = %q, %v; want %q", got, err, want)
	}
}

func TestErrorCodes(t *testing.T) {
	for _, err := range []error{
		signer.ErrInvalid, signer.ErrDenied, signer.ErrNotFound, signer.ErrUnsupported, signer.ErrDecrypt,
		signer.ErrOverloaded, signer.ErrUnavailable, context.DeadlineExceeded,
	} {
		code := signer.Code(fmt.Errorf("wrapped: %w", err))
		if got := signer.FromCode(code); !errors.Is(got, err) {
			t.Errorf("FromCode(Code(%v)) = %v by code %q", err, got, code)
		}
	}
	if got := signer.Code(errors.New("other")); got != signer.CodeInternal {
		t.Errorf("Code(other) = %q, want %q", got, signer.CodeInternal)
	}
	if got := signer.Code(nil); got != "ok" {
		t.Errorf("Code(nil) = %q, want ok", got)
	}
}

func TestRetryAfter(t *testing.T) {
	hinted := fmt.Errorf("sign: %w", signer.WithRetryAfter(fmt.Errorf("%w: too many", signer.ErrOverloaded), time.Minute))
	if got := signer.RetryAfter(hinted); got != time.Minute || !errors.Is(hinted, signer.ErrOverloaded) || hinted.Error() != "sign: overloaded: too many" {
		t.Errorf("RetryAfter(%v) = %v, want a minute", hinted, got)
	}
	if got := signer.RetryAfter(signer.ErrOverloaded); got != 0 {
		t.Errorf("RetryAfter(no hint) = %v, want 0", got)
	}
	if err := signer.WithRetryAfter(nil, time.Minute); err != nil {
		t.Errorf("WithRetryAfter(nil) = %v", err)
	}
}

// TestLargeRSA has a public key of half a million bits, as fits into a
// request: to encrypt to it takes more than a minute of one CPU.
func TestLargeRSA(t *testing.T) {
	n := new(big.Int).SetBit(big.NewInt(1), signer.MaxRSABits, 1)
	for _, alg := range []signer.Alg{signer.RSAOAEP256, signer.RS256} {
		if err := alg.Fits(&rsa.PublicKey{N: n, E: 65537}); !errors.Is(err, signer.ErrUnsupported) {
			t.Errorf("%s fits %d bits: %v", alg, n.BitLen(), err)
		}
	}
	n.SetBit(n, 1<<19, 1)
	if _, err := signer.EncryptJWE(&rsa.PublicKey{N: n, E: 1<<31 - 1}, "", signer.RSAOAEP, "", signer.Header{}, nil); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("EncryptJWE() to %d bits = %v", n.BitLen(), err)
	}
}
