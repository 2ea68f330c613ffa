package software_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"signetd/backends/software"
	"signetd/signer"
	"signetd/signer/signertest"
)

func TestConformance(t *testing.T) {
	hmacKey := make([]byte, 64)
	rand.Read(hmacKey)
	jwk, err := json.Marshal(jose.JSONWebKey{Key: hmacKey, Algorithm: "HS512"})
	if err != nil {
		t.Fatal(err)
	}
	hmacFile := write(t, jwk, 0o600)

	signertest.Run(t, signertest.Config{
		Open: func(t *testing.T) signer.Backend {
			b, err := software.Open(t.Context(), software.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		Refs: map[signertest.Kind]string{
			signertest.ECP256: "generate:ec-p256", signertest.ECP384: "generate:ec-p384", signertest.ECP521: "generate:ec-p521",
			signertest.RSASig: "generate:rsa-2048:sig", signertest.RSAEnc: "generate:rsa-2048:enc",
			signertest.Secp256k1: "generate:ec-secp256k1", signertest.Ed25519: "generate:ed25519", signertest.HMAC: hmacFile,
			signertest.MLDSA44: "generate:ml-dsa-44", signertest.MLDSA65: "generate:ml-dsa-65", signertest.MLDSA87: "generate:ml-dsa-87",
			signertest.AES128: "generate:aes-128", signertest.AES192: "generate:aes-192", signertest.AES256: "generate:aes-256",
			signertest.ECDHP256: "generate:ec-p256:ecdh", signertest.ECDHP384: "generate:ec-p384:ecdh", signertest.ECDHP521: "generate:ec-p521:ecdh",
		},
		HMACKey: hmacKey,
		Missing: "/nonexistent/key.pem",
	})
}

func open(t *testing.T) *software.Backend {
	t.Helper()
	b, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func write(t *testing.T, data []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFiles(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: rs})
	if err != nil {
		t.Fatal(err)
	}

	tests := map[string]struct {
		data []byte
	}{
		"PKCS #8": {data: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})},
		"SEC 1":   {data: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})},
		"PKCS #1": {data: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rs)})},
		"JWK":     {data: jwk},
	}

	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k, err := open(t).OpenKey(t.Context(), write(t, tt.data, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			if !ec.PublicKey.Equal(k.Public()) && !rs.PublicKey.Equal(k.Public()) {
				t.Error("the key is another than was written")
			}
		})
	}
}

func TestBadFiles(t *testing.T) {
	const secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ" // #nosec G101 -- an example

	tests := []struct {
		name string
		ref  string
		want error
		text string
	}{
		{"missing", "/nonexistent/key.pem", signer.ErrNotFound, "no such file"},
		{"relative", "key.pem", signer.ErrInvalid, "absolute path"},
		{"unknown type", "generate:dsa", signer.ErrInvalid, "ec-p256"},
		{"readable by others", write(t, []byte(secret), 0o644), signer.ErrInvalid, "0644"},
		{"garbage", write(t, []byte(secret), 0o600), signer.ErrInvalid, "no private key"},
		{"broken JWK", write(t, []byte(`{"kty":"EC","d":"`+secret+`"}`), 0o600), signer.ErrInvalid, "no private key"},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := open(t).OpenKey(t.Context(), tt.ref)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("OpenKey() = %v, want %v with %q", err, tt.want, tt.text)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("OpenKey() = %v: what the file holds", err)
			}
		})
	}
}

func TestGenerateIsStable(t *testing.T) {
	b := open(t)
	var pubs []*ecdsa.PublicKey
	for _, ref := range []string{"generate:ec-p256", "generate:ec-p256", "generate:ec-p256:other"} {
		k, err := b.OpenKey(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		pubs = append(pubs, k.Public().(*ecdsa.PublicKey))
	}
	if !pubs[0].Equal(pubs[1]) || pubs[0].Equal(pubs[2]) {
		t.Error("one ref must give one key, another ref another key")
	}
}

// TestKeysFor generates keys, and compares what they do with what KeysFor says. The
// larger RSA keys are left out: they take long, and differ in nothing but size.
func TestKeysFor(t *testing.T) {
	b := open(t)

	for _, typ := range []string{
		"ec-p256", "ec-p384", "ec-p521", "ec-secp256k1", "ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87",
		"rsa-2048", "hmac-512", "aes-128", "aes-192", "aes-256",
	} {
		key, err := b.OpenKey(t.Context(), "generate:"+typ)
		if err != nil {
			t.Fatal(err)
		}
		for _, alg := range signer.Known() {
			_, err := signer.NewVersion(key, signer.VersionConfig{KID: typ, Algs: []signer.Alg{alg}})
			if says := slices.Contains(software.KeysFor(alg), typ); says != (err == nil) {
				t.Errorf("KeysFor(%s) has %s is %t, and NewVersion() = %v", alg, typ, says, err)
			}
		}
	}
}
