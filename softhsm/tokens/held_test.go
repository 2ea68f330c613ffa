//go:build linux && cgo

package tokens_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm/tokens"
)

// TestHeldCEK has each token keep the CEK and decrypt the content with it, or say
// that it cannot.
func TestHeldCEK(t *testing.T) {
	holders := map[string][]signer.Alg{
		"softhsm2": {signer.RSAOAEP}, // OAEP with SHA-2 is done here, which needs the CEK
		"nss":      {signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512},
	}

	for _, kit := range tokens.All() {
		t.Run(kit.Name, func(t *testing.T) {
			if !runAlone(t) {
				return
			}
			token := kit.New(t)
			ref := token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
			cfg := token.Config()
			cfg.HoldCEK = true
			b, err := pkcs11.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}()
			k, err := b.OpenKey(t.Context(), ref)
			want := holders[kit.Name]
			if want == nil {
				if _, opens := k.(signer.Decrypter); opens || err != nil && !errors.Is(err, signer.ErrUnsupported) { // a key of the TPM still signs
					t.Errorf("OpenKey() = %T, %v, want ErrUnsupported", k, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := k.(signer.AlgLister).Algs(); !slices.Equal(got, want) {
				t.Errorf("Algs() = %v, want %v", got, want)
			}
			for _, alg := range want {
				holdsCEK(t, k, alg, kit.Name == "nss")
			}
		})
	}
}

// holdsCEK opens JWEs with each size of CEK. tells says that the token knows how
// long a CEK is.
func holdsCEK(t *testing.T, k signer.Key, alg signer.Alg, tells bool) {
	t.Helper()
	v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{alg}})
	if err != nil {
		t.Fatal(err)
	}

	for _, enc := range []string{"A128GCM", "A192GCM", "A256GCM"} {
		jwe, err := v.EncryptJWE(t.Context(), enc, signer.Header{}, []byte("a sealed envelope"))
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := signer.ParseSealed(jwe)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0])
		if err != nil || string(got) != "a sealed envelope" {
			t.Errorf("%s %s: %q, %v", alg, enc, got, err)
		}
	}
	d, cek := k.(signer.ContentDecrypter), make([]byte, 16)
	c := signer.Content{Enc: "A256GCM", IV: make([]byte, 12)}
	if c.EncryptedKey, err = rsa.EncryptOAEP(alg.Hash().New(), rand.Reader, k.Public().(*rsa.PublicKey), cek, nil); err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	c.Tag = aead.Seal(nil, c.IV, nil, nil)
	if _, err := d.DecryptContent(t.Context(), alg, c); tells && !errors.Is(err, signer.ErrDecrypt) {
		t.Errorf("%s: a CEK that is too short: %v, want ErrDecrypt", alg, err)
	}
	c.Tag[0] ^= 1
	if _, err := d.DecryptContent(t.Context(), alg, c); !errors.Is(err, signer.ErrDecrypt) {
		t.Errorf("%s: a wrong tag: %v, want ErrDecrypt", alg, err)
	}
}
