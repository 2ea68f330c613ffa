package signer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"slices"
	"testing"

	"signetd/signer"
)

func TestNewVersion(t *testing.T) {
	ec, rs := open(t, "generate:ec-p256"), open(t, "generate:rsa-2048")
	tests := []struct {
		name string
		key  signer.Key
		algs []signer.Alg
		want error
	}{
		{"fits", ec, []signer.Alg{signer.ES256}, nil},
		{"several", rs, []signer.Alg{signer.RS256, signer.PS512}, nil},
		{"none", ec, nil, signer.ErrInvalid},
		{"unknown", ec, []signer.Alg{"none"}, signer.ErrUnsupported},
		{"another curve", ec, []signer.Alg{signer.ES384}, signer.ErrUnsupported},
		{"another type", ec, []signer.Alg{signer.RS256}, signer.ErrUnsupported},
		{"signs and decrypts", rs, []signer.Alg{signer.RS256, signer.RSAOAEP256}, signer.ErrInvalid},
		{"does not sign", unable{ec}, []signer.Alg{signer.ES256}, signer.ErrUnsupported},
		{"does not decrypt", unable{rs}, []signer.Alg{signer.RSAOAEP}, signer.ErrUnsupported},
		{"lacks the mechanism", lister{rs.(signer.Decrypter), []signer.Alg{signer.RSAOAEP}}, []signer.Alg{signer.RSAOAEP256}, signer.ErrUnsupported},
		{"has the mechanism", lister{rs.(signer.Decrypter), []signer.Alg{signer.RSAOAEP}}, []signer.Alg{signer.RSAOAEP}, nil},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := signer.NewVersion(tt.key, signer.VersionConfig{Algs: tt.algs}); !errors.Is(err, tt.want) {
				t.Errorf("NewVersion() = %v, want %v", err, tt.want)
			}
		})
	}
}

// unable is a key that has a public half and nothing else.
type unable struct{ key signer.Key }

func (u unable) Public() crypto.PublicKey { return u.key.Public() }

type lister struct {
	signer.Decrypter
	algs []signer.Alg
}

func (l lister) Algs() []signer.Alg { return l.algs }

func TestSmallRSA(t *testing.T) {
	pub := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}
	if err := signer.RS256.Fits(pub); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("RS256.Fits(1024 bits) = %v, want ErrUnsupported", err)
	}
	if algs := signer.Algs(pub); len(algs) != 0 {
		t.Errorf("Algs(1024 bits) = %v, want none", algs)
	}
}

// glitch signs with another key than it shows.
type glitch struct {
	signer.Signer
	other signer.Signer
}

func (g glitch) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return g.other.SignContext(ctx, digest, opts)
}

func TestVerifyAfterSign(t *testing.T) {
	for _, ref := range []string{"generate:ec-p256", "generate:rsa-2048"} {
		key, ok := open(t, ref).(signer.Signer)
		other, ok2 := open(t, ref).(signer.Signer)
		if !ok || !ok2 {
			t.Fatal("not signers")
		}
		for _, alg := range signer.Algs(key.Public()) {
			if alg.Use() != signer.UseSig {
				continue
			}
			v, err := signer.NewVersion(glitch{key, other}, signer.VersionConfig{Algs: []signer.Alg{alg}})
			if err != nil {
				t.Fatal(err)
			}
			digest := make([]byte, alg.Hash().Size())
			if sig, err := v.Sign(t.Context(), alg, digest); err == nil || sig != nil || signer.Code(err) != signer.CodeInternal {
				t.Errorf("%s: Sign() by another key = %d bytes, %v; want an internal error", alg, len(sig), err)
			}
			if err := v.Prove(t.Context()); err == nil {
				t.Errorf("%s: Prove() with another key = nil", alg)
			}
		}
	}
}

// A half is a key that its backend has proven with some algorithms.
type half struct {
	signer.Signer
	proven []signer.Alg
	uses   *int
}

func (h half) Proven(alg signer.Alg) bool { return slices.Contains(h.proven, alg) }

func (h half) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	*h.uses++
	return h.Signer.SignContext(ctx, digest, opts)
}

func TestProveOnce(t *testing.T) {
	key, ok := open(t, "generate:rsa-2048").(signer.Signer)
	if !ok {
		t.Fatal("not a signer")
	}

	for _, tt := range []struct {
		proven []signer.Alg
		uses   int
	}{{nil, 2}, {[]signer.Alg{signer.RS256}, 1}, {[]signer.Alg{signer.RS384}, 2}, {[]signer.Alg{signer.PS256, signer.RS256}, 0}} {
		uses := 0
		v, err := signer.NewVersion(half{key, tt.proven, &uses}, signer.VersionConfig{Algs: []signer.Alg{signer.RS256, signer.PS256}})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Prove(t.Context()); err != nil || uses != tt.uses {
			t.Errorf("Prove() of a key that is proven with %v = %v after %d signatures, want %d", tt.proven, err, uses, tt.uses)
		}
	}
}

func TestCheckDigestAuto(t *testing.T) {
	rs := open(t, "generate:rsa-2048").Public()
	alg, err := signer.CheckDigest(rs, make([]byte, 32), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256})
	if err != nil || alg != signer.PS256 {
		t.Errorf("CheckDigest(PSSSaltLengthAuto) = %s, %v; want PS256", alg, err)
	}
	if _, err := signer.CheckDigest(rs, nil, nil); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("CheckDigest(no options) = %v, want ErrUnsupported", err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.CheckDigest(p224.Public(), make([]byte, 32), crypto.SHA256); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("CheckDigest(P-224) = %v, want ErrUnsupported", err)
	}
}
