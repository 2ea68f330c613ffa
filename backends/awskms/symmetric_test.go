//go:build !noaws

package awskms_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"signetd/backends/awskms/awskmstest"
	"signetd/signer"
)

func TestBlob(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)

	get := func() signer.BlobCipher {
		k, err := b.OpenKey(t.Context(), server.CreateKey("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"))
		if err != nil {
			t.Fatal(err)
		}
		return k.(signer.BlobCipher)
	}

	k, other := get(), get()
	if k.Public() != (signer.Secret{Type: signer.SecretBlob, Size: 32}) {
		t.Errorf("Public() = %#v", k.Public())
	}

	for _, aad := range [][]byte{nil, []byte("aad"), bytes.Repeat([]byte{0xff}, 4096)} {
		for _, size := range []int{1, 32, 4096} {
			want := make([]byte, size)
			rand.Read(want)
			blob, err := k.EncryptBlob(t.Context(), want, aad)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := k.DecryptBlob(t.Context(), blob, aad); err != nil || !bytes.Equal(got, want) {
				t.Errorf("DecryptBlob(EncryptBlob(%d bytes)) = %d bytes, %v", size, len(got), err)
			}
			spoilt := slices.Clone(blob)
			spoilt[len(spoilt)-1] ^= 1
			for name, bad := range map[string]struct {
				k         signer.BlobCipher
				blob, aad []byte
			}{
				"another key": {other, blob, aad}, "another aad": {k, blob, append(slices.Clone(aad[:min(len(aad), 9)]), 'x')}, "tampered": {k, spoilt, aad},
				"cut": {k, blob[:len(blob)-1], aad}, "empty": {k, nil, aad}, "long": {k, make([]byte, 6145), aad}, "an aad too long": {k, blob, make([]byte, 4097)},
			} {
				if got, err := bad.k.DecryptBlob(t.Context(), bad.blob, bad.aad); got != nil || err != signer.ErrDecrypt { //nolint:errorlint // it goes bare
					t.Errorf("DecryptBlob(%s) = %d bytes, %v; want ErrDecrypt and nothing else", name, len(got), err)
				}
			}
		}
	}

	for name, in := range map[string][2][]byte{"empty": {nil, nil}, "long": {make([]byte, 4097), nil}, "long aad": {{1}, make([]byte, 4097)}} {
		if _, err := k.EncryptBlob(t.Context(), in[0], in[1]); !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("EncryptBlob(%s) = %v, want ErrInvalid", name, err)
		}
	}
}
