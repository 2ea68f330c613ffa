package p256

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"signetd/signer"
)

// BenchmarkVerifyP256 verifies signatures of one key: as signer.VerifyDigest does for any
// key, and as a Version does for its own.
func BenchmarkVerifyP256(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	der, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	sig, err := signer.RawECDSA(der, 32)
	if err != nil {
		b.Fatal(err)
	}
	tables, err := newTable(&key.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	verifiers := []struct {
		name   string
		verify func() bool
	}{
		{"stdlib", func() bool { return signer.VerifyDigest(&key.PublicKey, signer.ES256, digest[:], sig) }},
		{"tables", func() bool { return tables.verify(digest[:], sig) }},
	}

	for _, v := range verifiers {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !v.verify() {
					b.Fatal("the signature does not verify")
				}
			}
		})
	}

	b.Run("building the tables", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := newTable(&key.PublicKey); err != nil {
				b.Fatal(err)
			}
		}
	})
}
