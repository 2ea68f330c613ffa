//go:build !noaws

package awskms_test

import (
	"crypto"
	"errors"
	"strings"
	"testing"

	"signetd/backends/awskms/awskmstest"
	"signetd/signer"
)

func TestMessageLimits(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)
	ed := openSigner(t, b, server.CreateKey("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"))
	k, err := b.OpenKey(t.Context(), server.CreateKey("HMAC_384", "GENERATE_VERIFY_MAC"))
	if err != nil {
		t.Fatal(err)
	}

	for size, want := range map[int]error{0: signer.ErrInvalid, 1: nil, 4096: nil, 4097: signer.ErrInvalid, 100_000: signer.ErrInvalid} {
		before := server.Calls()
		if _, err := ed.SignContext(t.Context(), make([]byte, size), crypto.Hash(0)); !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), "4096") {
			t.Errorf("SignContext(EdDSA, %d bytes) = %v, want %v", size, err, want)
		}
		if _, err := k.(signer.MACer).MACContext(t.Context(), make([]byte, size), crypto.SHA384); !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), "4096") {
			t.Errorf("MACContext(%d bytes) = %v, want %v", size, err, want)
		}
		if sent := server.Calls()["Sign"] > before["Sign"]; sent == (want != nil) {
			t.Errorf("%d bytes: sent is %t", size, sent)
		}
	}
}
