package signer_test

import (
	"bytes"
	"errors"
	"testing"

	"signetd/signer"
)

func TestWrapKey(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	tests := []struct {
		ref  string
		alg  signer.Alg
		form signer.WrapForm
		key  []byte
	}{
		{"generate:aes-128", signer.A128KW, signer.WrapRFC3394, secret},
		{"generate:aes-256", signer.A256KW, signer.WrapRFC5649, secret[:7]},
		{"generate:rsa-2048", signer.RSAOAEP, 0, secret[:1]},
		{"generate:rsa-2048", signer.RSAOAEP384, 0, bytes.Repeat(secret, 5)[:158]},
	}

	for _, tt := range tests {
		v, err := signer.NewVersion(open(t, tt.ref), signer.VersionConfig{KID: "k", Algs: []signer.Alg{tt.alg}})
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := v.WrapKey(t.Context(), tt.alg, tt.form, tt.key)
		if err != nil {
			t.Fatalf("%s: WrapKey() = %v", tt.alg, err)
		}
		if got, err := v.UnwrapKey(t.Context(), tt.alg, tt.form, wrapped); err != nil || !bytes.Equal(got, tt.key) {
			t.Errorf("%s: UnwrapKey() = %x, %v", tt.alg, got, err)
		}
		for _, bad := range [][]byte{nil, wrapped[1:], append(bytes.Clone(wrapped), 0), bytes.Repeat([]byte{1}, len(wrapped))} {
			if got, err := v.UnwrapKey(t.Context(), tt.alg, tt.form, bad); err != signer.ErrDecrypt || got != nil { //nolint:errorlint // it must be bare
				t.Errorf("%s: UnwrapKey(%d bytes) = %x, %v; want ErrDecrypt", tt.alg, len(bad), got, err)
			}
		}
	}
}

func TestWrapKeyRefuses(t *testing.T) {
	tests := []struct {
		ref, name string
		alg       signer.Alg
		form      signer.WrapForm
		size      int
		want      error
	}{
		{"generate:aes-128", "a form that is none", signer.A128KW, 0, 16, signer.ErrInvalid},
		{"generate:aes-128", "no multiple of 8", signer.A128KW, signer.WrapRFC3394, 17, signer.ErrInvalid},
		{"generate:aes-128", "nothing", signer.A128KW, signer.WrapRFC5649, 0, signer.ErrInvalid},
		{"generate:aes-128", "too long", signer.A128KW, signer.WrapRFC5649, 1 << 20, signer.ErrInvalid},
		{"generate:aes-128", "of a JWE alone", signer.A128GCMKW, signer.WrapRFC3394, 16, signer.ErrUnsupported},
		{"generate:aes-128", "not listed", signer.A256KW, signer.WrapRFC3394, 16, signer.ErrUnsupported},
		{"generate:rsa-2048", "a form with RSA", signer.RSAOAEP, signer.WrapRFC3394, 16, signer.ErrInvalid},
		{"generate:rsa-2048", "longer than OAEP takes", signer.RSAOAEP, 0, 215, signer.ErrInvalid},
		{"generate:rsa-2048", "nothing", signer.RSAOAEP, 0, 0, signer.ErrInvalid},
		{"generate:rsa-2048", "never with RSA1_5", signer.RSA15, 0, 16, signer.ErrUnsupported},
		{"generate:ec-p256", "agreement", signer.ECDHESA128KW, 0, 16, signer.ErrUnsupported},
	}

	for _, tt := range tests {
		alg := tt.alg
		if tt.name == "not listed" {
			alg = signer.A128KW
		}
		v, err := signer.NewVersion(open(t, tt.ref), signer.VersionConfig{KID: "k", Algs: []signer.Alg{alg}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.WrapKey(t.Context(), tt.alg, tt.form, make([]byte, tt.size)); !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%s: WrapKey() = %x, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}
