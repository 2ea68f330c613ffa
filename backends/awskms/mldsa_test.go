//go:build !noaws

package awskms_test

import (
	"bytes"
	"crypto"
	"errors"
	"testing"

	"filippo.io/mldsa"

	"signetd/backends/awskms/awskmstest"
	"signetd/signer"
)

// TestMLDSA signs messages of every length, and verifies with the server's key. It never
// gets a signature that is not the key's.
func TestMLDSA(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)

	for _, spec := range []string{"ML_DSA_44", "ML_DSA_65", "ML_DSA_87"} {
		arn := server.CreateKey(spec, "SIGN_VERIFY")
		k := openSigner(t, b, arn)
		pub, _ := server.Public(arn).(*mldsa.PublicKey)
		for _, size := range []int{0, 1, 64, 4096, 4097, 200_000} {
			message := bytes.Repeat([]byte("m"), size)
			sig, err := k.SignContext(t.Context(), message, crypto.Hash(0))
			if err != nil {
				t.Errorf("%s: SignContext(%d bytes) = %v", spec, size, err)
			} else if err := mldsa.Verify(pub, message, sig, nil); err != nil {
				t.Errorf("%s: SignContext(%d bytes): %v", spec, size, err)
			}
		}
		for name, fault := range map[string]awskmstest.Fault{
			"another key's":       awskmstest.OtherKey(),
			"one of another size": awskmstest.With("Signature", make([]byte, 64)),
			"another algorithm's": awskmstest.With("SigningAlgorithm", "ED25519_SHA_512"),
		} {
			server.Inject("Sign", 1, 1, fault)
			if sig, err := k.SignContext(t.Context(), []byte("m"), crypto.Hash(0)); sig != nil || signer.Code(err) != signer.CodeInternal {
				t.Errorf("%s: SignContext() with %s signature = %d bytes, %v; want none", spec, name, len(sig), err)
			}
			server.Heal()
		}
		if _, err := k.SignContext(t.Context(), make([]byte, 32), crypto.SHA256); !errors.Is(err, signer.ErrUnsupported) {
			t.Errorf("%s: SignContext(SHA-256) = %v, want ErrUnsupported", spec, err)
		}
	}
}

// TestMLDSAPermission opens a key without the permission to sign, which the probe finds.
func TestMLDSAPermission(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)
	server.Deny("Sign")
	if k, err := b.OpenKey(t.Context(), server.CreateKey("ML_DSA_44", "SIGN_VERIFY")); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("OpenKey() = %v, %v; want ErrUnavailable", k, err)
	}
}
