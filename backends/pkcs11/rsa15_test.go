//go:build cgo

package pkcs11_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// TestRSA15 opens what old senders make, and returns random bytes for everything else.
func TestRSA15(t *testing.T) {
	token := softhsm.New(t)
	ref, signs := token.Generate(t, "old", provision.RSA2048, signer.UseEnc), token.Generate(t, "sig", provision.RSA2048, signer.UseSig)
	b, err := pkcs11.Open(t.Context(), token.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	k, err := b.OpenKey(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(k.(signer.AlgLister).Algs(), signer.RSA15) {
		t.Errorf("Algs() lists %s, which nobody is to be pointed at", signer.RSA15)
	}
	v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{signer.RSA15}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Prove(t.Context()); err != nil {
		t.Errorf("Prove() = %v", err)
	}
	d, pub := k.(signer.SessionKeyDecrypter), k.Public().(*rsa.PublicKey)
	want := make([]byte, 32)
	rand.Read(want)
	good, err := rsa.EncryptPKCS1v15(rand.Reader, pub, want) //nolint:staticcheck // what old senders do
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.DecryptSessionKeyContext(t.Context(), good, 32); err != nil || !bytes.Equal(got, want) {
		t.Errorf("DecryptSessionKeyContext() = %x, %v; want %x", got, err, want)
	}
	flipped := bytes.Clone(good)
	flipped[100] ^= 1

	for name, tt := range map[string]struct {
		ciphertext []byte
		size       int
	}{
		"another length": {good, 16}, "a longer one": {good, 64}, "flipped": {flipped, 32}, "short": {good[:255], 32}, "empty": {nil, 32},
		"the modulus": {pub.N.Bytes(), 32}, "zero": {make([]byte, 256), 32},
	} {
		one, err := d.DecryptSessionKeyContext(t.Context(), tt.ciphertext, tt.size)
		again, err2 := d.DecryptSessionKeyContext(t.Context(), tt.ciphertext, tt.size)
		if err != nil || err2 != nil || len(one) != tt.size || len(again) != tt.size || bytes.Equal(one, again) || bytes.Equal(one, want) {
			t.Errorf("DecryptSessionKeyContext(%s) = %x, %v, and %x, %v; want %d random bytes each time", name, one, err, again, err2, tt.size)
		}
	}
	s, err := b.OpenKey(t.Context(), signs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.NewVersion(s, signer.VersionConfig{Algs: []signer.Alg{signer.RSA15}}); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("NewVersion(%s) of a key that signs = %v, want ErrUnsupported", signer.RSA15, err)
	}
}
