//go:build !nogcp

package gcpkms_test

import (
	"errors"
	"slices"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/signer"
)

// TestBlob decrypts what a key has encrypted before it was rotated, and nothing that was
// tampered with.
func TestBlob(t *testing.T) {
	t.Parallel()
	kms := gcpkmstest.New(t)
	name := kms.CreateKey("kek", kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION)
	kms.CreateVersion(name)
	opened, err := mustOpen(t, plain(kms)).OpenKey(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	key := opened.(signer.BlobCipher)
	if want := (signer.Secret{Type: signer.SecretBlob, Size: 32}); key.Public() != want {
		t.Errorf("Public() = %v, want %v", key.Public(), want)
	}
	blob, err := key.EncryptBlob(t.Context(), []byte("secret"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	kms.CreateVersion(name) // rotated
	if got, err := key.DecryptBlob(t.Context(), blob, []byte("aad")); err != nil || string(got) != "secret" {
		t.Errorf("DecryptBlob() after a rotation = %q, %v", got, err)
	}
	if _, err := key.EncryptBlob(t.Context(), []byte("secret"), nil); err != nil {
		t.Errorf("EncryptBlob() after a rotation = %v", err)
	}
	bad := slices.Clone(blob)
	bad[len(bad)-1] ^= 1

	for what, in := range map[string][2][]byte{
		"tampered": {bad, []byte("aad")}, "other aad": {blob, []byte("add")}, "empty": {nil, nil}, "short": {blob[:3], nil},
		"of no version": {append([]byte{0, 0, 0, 99}, blob[4:]...), []byte("aad")}, "too long": {make([]byte, 2<<20), nil},
	} {
		if _, err := key.DecryptBlob(t.Context(), in[0], in[1]); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
			t.Errorf("DecryptBlob(%s) = %v, want ErrDecrypt and nothing else", what, err)
		}
	}

	if _, err := key.EncryptBlob(t.Context(), make([]byte, 64<<10+1), nil); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("EncryptBlob(64 KiB + 1) = %v, want ErrInvalid", err)
	}
}
