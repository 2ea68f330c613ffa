//go:build linux && cgo

package tokens

import (
	"os"
	"testing"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// NewSoftHSM2 starts SoftHSM2, which needs no process. It lacks RSA-OAEP with SHA-2, which
// package pkcs11 builds on CKM_RSA_X_509, and wraps no keys by RFC 5649, though it unwraps
// them. It never locks a PIN, has no limit of sessions, and answers most faults with one
// code.
func NewSoftHSM2(tb testing.TB) *Token {
	tb.Helper()
	if _, err := softhsm.Module(); err != nil && os.Getenv("REQUIRE_TOKENS") == "1" {
		tb.Fatal(err)
	}
	s := softhsm.New(tb)
	return &Token{
		module: s.Module(), label: s.Label(), pin: s.PIN(), pinFile: s.PINFile(),
		generate: func(label string, typ provision.KeyType, use signer.Use) error {
			_, err := s.GenerateKey(label, typ, use)
			return err
		},
	}
}
