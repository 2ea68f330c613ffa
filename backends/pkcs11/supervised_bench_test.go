//go:build cgo

package pkcs11_test

import (
	"context"
	"crypto"
	"testing"
	"time"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/signer/supervise"
	"signetd/softhsm"
)

// BenchmarkSupervised signs for one client: on the caller's goroutine, for which a
// watchdog answers if the token hangs, and on a goroutine of its own, which the caller
// waits for.
func BenchmarkSupervised(b *testing.B) {
	token := softhsm.New(b)
	ref := token.Generate(b, "sig", provision.ECP256, signer.UseSig)
	backend, err := pkcs11.Open(b.Context(), token.Config())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = backend.Close() })
	opened, err := backend.OpenKey(b.Context(), ref)
	if err != nil {
		b.Fatal(err)
	}
	key := opened.(signer.Signer)
	deadline, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()

	digest := make([]byte, 32)
	for _, v := range []struct {
		name string
		ctx  context.Context
	}{{"supervised", supervise.NewContext(time.Hour)}, {"own-goroutine", deadline}} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := key.SignContext(v.ctx, digest, crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
