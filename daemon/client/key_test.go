package client_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"signetd/daemon/api"
	"signetd/daemon/client"
	"signetd/signer"
	"signetd/signer/signertest"
)

func TestConformance(t *testing.T) {
	socket := serveDaemon(t)
	signertest.Run(t, signertest.Config{
		Open: func(*testing.T) signer.Backend { return client.New(client.Config{Socket: socket}).Backend() },
		Refs: map[signertest.Kind]string{
			signertest.ECP256: "es256", signertest.ECP384: "es384", signertest.ECP521: "es512",
			signertest.Secp256k1: "es256k", signertest.Ed25519: "eddsa",
			signertest.RSASig: "rsa", signertest.RSAEnc: "inbox",
		},
		Missing: "unknown",
	})
}

func TestOpaqueSigner(t *testing.T) {
	c := connectDaemon(t)
	for name, alg := range map[string]jose.SignatureAlgorithm{"es256": jose.ES256, "es512": jose.ES512, "eddsa": jose.EdDSA, "rsa": jose.PS384} {
		s, err := c.Signer(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		opaque, err := s.Opaque()
		if err != nil {
			t.Fatal(err)
		}

		js, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: opaque}, nil)
		if err != nil {
			t.Fatal(err)
		}
		token, err := jwt.Signed(js).Claims(jwt.Claims{Subject: "alice"}).Serialize()
		if err != nil {
			t.Fatal(err)
		}

		parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{alg})
		if err != nil {
			t.Fatal(err)
		}
		var claims jwt.Claims
		if err := parsed.Claims(s.Public(), &claims); err != nil || claims.Subject != "alice" {
			t.Errorf("%s: Claims() = %v, subject %q", alg, err, claims.Subject)
		}
		if kid := parsed.Headers[0].KeyID; kid != s.KID() || kid == "" {
			t.Errorf("%s: kid = %q, want %q", alg, kid, s.KID())
		}
	}
}

func TestOpaqueDecrypter(t *testing.T) {
	d, err := connectDaemon(t).Decrypter(t.Context(), "inbox")
	if err != nil {
		t.Fatal(err)
	}

	enc, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: d.Public(), KeyID: d.KID()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := enc.Encrypt([]byte("plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := obj.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}

	parsed, err := jose.ParseEncryptedCompact(text, []jose.KeyAlgorithm{jose.RSA_OAEP_256}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parsed.Decrypt(d.Opaque()); err != nil || string(got) != "plaintext" {
		t.Errorf("Decrypt() = %q, %v", got, err)
	}
}

func TestPinnedAlgorithms(t *testing.T) {
	s, err := connectDaemon(t).Signer(t.Context(), "rs256")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.SignContext(t.Context(), make([]byte, 48), signer.RS384.SignerOpts())
	var refused *client.Error
	if !errors.Is(err, signer.ErrUnsupported) || errors.As(err, &refused) {
		t.Errorf("SignContext(RS384) = %v, want ErrUnsupported without a call of the daemon", err)
	}
}

func TestOpen(t *testing.T) {
	c := connectDaemon(t)
	tests := []struct {
		name string
		open func() error
		want error
	}{
		{"signer of an unknown key", func() error { _, err := c.Signer(t.Context(), "unknown"); return err }, signer.ErrDenied},
		{"signer without a name", func() error { _, err := c.Signer(t.Context(), ""); return err }, signer.ErrInvalid},
		{"signer without a grant", func() error { _, err := c.Signer(t.Context(), "hidden"); return err }, signer.ErrDenied},
		{"name with a slash", func() error { _, err := c.Signer(t.Context(), "../jwks"); return err }, signer.ErrDenied},
		{"signer of an encryption key", func() error { _, err := c.Signer(t.Context(), "inbox"); return err }, signer.ErrUnsupported},
		{"decrypter of a signing key", func() error { _, err := c.Decrypter(t.Context(), "rsa"); return err }, signer.ErrUnsupported},
		{"backend and a key without a grant", func() error { _, err := c.Backend().OpenKey(t.Context(), "hidden"); return err }, signer.ErrNotFound},
		{"backend and an unknown key", func() error { _, err := c.Backend().OpenKey(t.Context(), "unknown"); return err }, signer.ErrNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.open(); !errors.Is(err, tt.want) {
				t.Errorf("open = %v, want %v", err, tt.want)
			}
		})
	}
}

// TestOpenOdd opens keys whose description could come from a daemon of another version.
func TestOpenOdd(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := &signer.JWK{JSONWebKey: jose.JSONWebKey{Key: &private.PublicKey, KeyID: "1"}}

	tests := []struct {
		name string
		key  api.Key
		want error
		text string
	}{
		{"no active version", api.Key{Use: "sig", Algs: []string{"RS256"}, Versions: []api.KeyVersion{{KID: "1", Public: public}}}, signer.ErrNotFound, "no version is active"},
		{"algorithms of the future", api.Key{Use: "sig", Algs: []string{"XX1"}, Versions: []api.KeyVersion{{KID: "1", Active: true, Public: public}}}, signer.ErrUnsupported, "XX1"},
		{"symmetric key", api.Key{Use: "sig", Algs: []string{"RS256"}, Versions: []api.KeyVersion{{KID: "1", Active: true}}}, signer.ErrUnsupported, "symmetric"},
		{"one algorithm is known", api.Key{Use: "sig", Algs: []string{"XX1", "RS256"}, Versions: []api.KeyVersion{{KID: "1", Active: true, Public: public}}}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, respond(http.StatusOK, tt.key))
			_, err := c.Signer(t.Context(), "odd")
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Signer() = %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

// TestAnotherKeyAnswers holds that the client does not use an answer of another version
// than that which it asked for.
func TestAnotherKeyAnswers(t *testing.T) {
	c := connectDaemon(t)
	liar := http.NewServeMux()
	for _, name := range []string{"es256", "inbox"} {
		described, err := c.Key(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		liar.Handle(api.ListKeys.Path+"/"+name, respond(http.StatusOK, described))
	}
	liar.Handle(api.SignDigest.Path, respond(http.StatusOK, api.SignDigestResponse{Signature: make([]byte, 64), KID: "other"}))
	liar.Handle(api.UnwrapCEK.Path, respond(http.StatusOK, api.UnwrapCEKResponse{CEK: make([]byte, 32), KID: "other"}))

	c = connect(t, liar)
	s, err := c.Signer(t.Context(), "es256")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignContext(t.Context(), make([]byte, 32), signer.ES256.SignerOpts()); err == nil || !strings.Contains(err.Error(), `"other" answered`) {
		t.Errorf("SignContext() = %v, want an error that names the kid", err)
	}

	d, err := c.Decrypter(t.Context(), "inbox")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.DecryptContext(t.Context(), make([]byte, 256), signer.RSAOAEP256.DecrypterOpts()); err == nil || !strings.Contains(err.Error(), `"other" answered`) {
		t.Errorf("DecryptContext() = %v, want an error that names the kid", err)
	}
}
