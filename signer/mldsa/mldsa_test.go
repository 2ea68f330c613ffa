package mldsa_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"signetd/backends/software"
	"signetd/signer"
	"signetd/signer/mldsa"
)

var sizes = map[signer.Alg]struct {
	ref       string
	signature int // bytes, FIPS 204 section 4
}{
	signer.MLDSA44: {"generate:ml-dsa-44", 2420}, signer.MLDSA65: {"generate:ml-dsa-65", 3309}, signer.MLDSA87: {"generate:ml-dsa-87", 4627},
}

// TestSign signs with a software key as the daemon does, and verifies as a client
// does that has the key's JWK and the library.
func TestSign(t *testing.T) {
	b, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}

	for alg, want := range sizes {
		k, err := b.OpenKey(t.Context(), want.ref)
		if err != nil {
			t.Fatal(err)
		}
		v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{alg}})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Prove(t.Context()); err != nil {
			t.Errorf("%s: Prove() = %v", alg, err)
		}
		jws, err := v.SignJWS(t.Context(), "", signer.Header{}, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		token, err := signer.ParseSigned(jws.Compact())
		if err != nil || token.Alg != alg {
			t.Fatalf("ParseSigned() = %+v, %v", token, err)
		}
		if got, err := v.VerifyJWS(t.Context(), token); err != nil || string(got) != "payload" {
			t.Errorf("%s: VerifyJWS() = %q, %v", alg, got, err)
		}
		akp := roundTrip(t, v)
		if _, err := token.VerifyWith(akp, []signer.Alg{alg}); !errors.Is(err, signer.ErrUnsupported) || !strings.Contains(err.Error(), "cannot verify") {
			t.Errorf("%s: VerifyWith() without the library = %v, want ErrUnsupported that says so", alg, err)
		}
		verifier, err := mldsa.Public(alg, akp.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := token.VerifyWith(verifier, []signer.Alg{alg}); err != nil || string(got) != "payload" {
			t.Errorf("%s: VerifyWith() = %q, %v", alg, got, err)
		}
		sig, err := v.SignMessage(t.Context(), alg, []byte("message"))
		if err != nil || len(sig) != want.signature {
			t.Errorf("%s: a signature of %d bytes, %v; want %d", alg, len(sig), err, want.signature)
		}
		for i := range 2 {
			bad := bytes.Clone(sig)
			bad[i*(len(bad)-1)] ^= 1
			if signer.VerifyMessage(verifier, alg, []byte("message"), bad) || signer.VerifyMessage(verifier, alg, []byte("massage"), sig) {
				t.Errorf("%s: a wrong signature verifies", alg)
			}
		}
	}
}

// roundTrip is the public key of v as its JWK says it.
func roundTrip(t *testing.T, v *signer.Version) *signer.AKP {
	t.Helper()
	text, err := json.Marshal(v.JWK())
	if err != nil || !bytes.Contains(text, []byte(`"kty":"AKP"`)) {
		t.Fatalf("JWK %s, %v", text, err)
	}
	var jwk signer.JWK
	if err := json.Unmarshal(text, &jwk); err != nil || jwk.KeyID != v.KID() || jwk.Use != "sig" {
		t.Fatalf("JWK %s reads as %+v, %v", text, jwk, err)
	}
	akp, ok := jwk.Key.(*signer.AKP)
	if thumbprint, err := signer.Thumbprint(jwk.Key); !ok || err != nil || thumbprint != v.KID() || !akp.Equal(v.Public()) {
		t.Fatalf("JWK %s has the thumbprint %s, %v; want %s", text, thumbprint, err, v.KID())
	}
	set, err := signer.ParseJWKSet([]byte(`{"keys":[` + string(text) + `]}`))
	if err != nil || len(set.Keys) != 1 {
		t.Errorf("ParseJWKSet() = %+v, %v", set, err)
	}
	private := strings.Replace(string(text), `"kty"`, `"priv":"c2VjcmV0","kty"`, 1)
	if set, err := signer.ParseJWKSet([]byte(`{"keys":[` + private + `]}`)); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("ParseJWKSet() of a private key = %+v, %v; want ErrInvalid", set, err)
	}
	return akp
}

// unverified is a key whose signatures this build cannot verify.
type unverified struct {
	signer.Signer
	public *signer.AKP
}

func (u unverified) Public() crypto.PublicKey { return u.public }

// TestNoVerification: nothing is signed that cannot be verified.
func TestNoVerification(t *testing.T) {
	k, err := mldsa.Generate(signer.MLDSA44)
	if err != nil {
		t.Fatal(err)
	}
	known, _ := k.Public().(*signer.AKP)
	bare, err := signer.NewAKP(signer.MLDSA44, known.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := signer.NewVersion(unverified{public: bare}, signer.VersionConfig{Algs: []signer.Alg{signer.MLDSA44}}); !errors.Is(err, signer.ErrUnsupported) || !strings.Contains(err.Error(), "cannot verify") {
		t.Errorf("NewVersion() = %v, %v; want ErrUnsupported", v, err)
	}
	if _, err := signer.NewVersion(unverified{public: known}, signer.VersionConfig{Algs: []signer.Alg{signer.MLDSA65}}); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("NewVersion() with another algorithm = %v, want ErrUnsupported", err)
	}
}

func TestRefuses(t *testing.T) {
	if k, err := mldsa.FromSeed(signer.MLDSA44, make([]byte, 31)); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("FromSeed(31 bytes) = %v, %v; want ErrInvalid", k, err)
	}
	if k, err := mldsa.Generate(signer.ES256); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Generate(ES256) = %v, %v; want ErrInvalid", k, err)
	}

	for _, n := range []int{0, 1311, 1313, 1952} {
		if k, err := mldsa.Public(signer.MLDSA44, make([]byte, n)); !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("Public(%d bytes) = %v, %v; want ErrInvalid", n, k, err)
		}
	}

	one, err := mldsa.FromSeed(signer.MLDSA65, bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	two, err := mldsa.FromSeed(signer.MLDSA65, bytes.Repeat([]byte{7}, 32))
	if akp, ok := one.Public().(*signer.AKP); err != nil || !ok || !akp.Equal(two.Public()) {
		t.Errorf("one seed makes two keys: %v", err)
	}
}
