package signer_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"signetd/signer"
)

// TestLookup holds that each algorithm is found by its name, and back from what a
// signer is passed for it.
func TestLookup(t *testing.T) {
	for _, alg := range signer.Known() {
		if alg.Family() == 0 || alg.Use() == "" {
			t.Errorf("%s: Family() = %d, Use() = %q", alg, alg.Family(), alg.Use())
		}
	}

	for _, name := range []signer.Alg{"", "none", "es256", "ES256 "} {
		if name.Family() != 0 || name.Hash() != 0 || name.Use() != "" {
			t.Errorf("%q is known as an algorithm", name)
		}
	}

	curves := map[signer.Alg]elliptic.Curve{
		signer.ES256: elliptic.P256(), signer.ES384: elliptic.P384(), signer.ES512: elliptic.P521(), signer.ES256K: signer.Secp256k1(),
	}

	for alg, curve := range curves {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		got, err := signer.CheckDigest(&key.PublicKey, make([]byte, alg.Hash().Size()), alg.SignerOpts())
		if err != nil || got != alg {
			t.Errorf("CheckDigest(a key on %s, %v) = %s, %v; want %s", curve.Params().Name, alg.Hash(), got, err, alg)
		}
		if _, err := signer.CheckDigest(&key.PublicKey, nil, crypto.MD4); !errors.Is(err, signer.ErrUnsupported) {
			t.Errorf("CheckDigest(MD4) = %v, want ErrUnsupported", err)
		}
	}
}
