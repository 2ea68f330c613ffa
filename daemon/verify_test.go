package daemon_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
	"signetd/daemon/daemontest"
	"signetd/daemon/policy"
	"signetd/signer"
)

// TestVerifyJWTOfIssuers verifies tokens of trusted issuers, with a kid and without.
func TestVerifyJWTOfIssuers(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	for name, token := range map[string]string{
		"by kid":                   w.sign(t, w.theirs, jose.ES256, "t1", theirClaims("")),
		"by the second key":        w.sign(t, w.another, jose.EdDSA, "t2", theirClaims("")),
		"without a kid":            w.sign(t, w.theirs, jose.ES256, "", theirClaims("")),
		"the second without a kid": w.sign(t, w.another, jose.EdDSA, "", theirClaims("")),
	} {
		v, err := w.VerifyJWT(ctx, api.VerifyJWTRequest{Token: token, Issuer: "https://idp.example"})
		if err != nil || v.Key != "idp" || !strings.Contains(string(v.Claims), `"bob"`) {
			t.Errorf("%s: VerifyJWT() = %+v, %v", name, v, err)
		}
		if rec := w.lastRecord(t); rec.Op != "verify" || rec.Key != "idp" || rec.Digest == "" || rec.Outcome != "ok" {
			t.Errorf("%s: record %+v", name, rec)
		}
	}
	jws, err := w.SignJWS(ctx, api.SignJWSRequest{Key: "notes", Payload: []byte(strings.Replace(theirClaims(""), "idp", "notes", 1))})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := w.VerifyJWT(ctx, api.VerifyJWTRequest{Token: jws.JWS}); err != nil || v.Key != "own" {
		t.Errorf("VerifyJWT() of a token of our own key, as an issuer = %+v, %v", v, err)
	}
	ours, err := w.SignJWT(ctx, api.SignJWTRequest{Key: "oidc", Claims: json.RawMessage(`{"aud":"api"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := w.VerifyJWT(ctx, api.VerifyJWTRequest{Token: ours.Token}); err != nil || v.Key != "oidc" {
		t.Errorf("VerifyJWT() of our own token = %+v, %v", v, err)
	}
	ask := func(token string) string { return `{"token":"` + token + `"}` }
	other := newWorld(t, nil)
	w.checkRefusals(t, []refusal{
		{"another party's key", api.VerifyJWT.Path, ask(other.sign(t, other.theirs, jose.ES256, "t1", theirClaims(`,"x":"hunter2"`))), "invalid", "signature"},
		{"the same without a kid", api.VerifyJWT.Path, ask(other.sign(t, other.theirs, jose.ES256, "", theirClaims(`,"x":"hunter2"`))), "invalid", "signature"},
		{"another issuer", api.VerifyJWT.Path, ask(w.sign(t, w.theirs, jose.ES256, "t1", strings.Replace(theirClaims(""), "idp", "hunter2", 1))), "invalid", "iss"},
		{"our issuer, their key", api.VerifyJWT.Path, ask(w.sign(t, w.theirs, jose.ES256, "o", theirClaims(""))), "invalid", "signature"},
		{"no token", api.VerifyJWT.Path, ask("hunter2"), "invalid", "compact"},
	})
}

func TestVerifyJWS(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	for _, form := range []string{"", api.Compact, api.Flattened, api.General} {
		for _, detached := range []bool{false, true} {
			jws, err := w.SignJWS(ctx, api.SignJWSRequest{Key: "notes", Payload: []byte("a note"), Serialization: form, Detached: detached, Header: &api.Header{Typ: "x", Cty: "text/plain"}})
			if err != nil {
				t.Fatal(err)
			}
			q := api.VerifyJWSRequest{JWS: jws.JWS}
			if detached {
				q.Payload = []byte("a note")
			}
			v, err := w.VerifyJWS(ctx, q)
			if err != nil || string(v.Payload) != "a note" || v.Key != "notes" || v.Header != (api.JWSHeader{Alg: "ES384", KID: "n", Typ: "x", Cty: "text/plain"}) {
				t.Errorf("VerifyJWS(%q, detached %t) = %+v, %v", form, detached, v, err)
			}
			if rec := w.lastRecord(t); rec.Op != "verify-jws" || rec.Key != "notes" || rec.KID != "n" || rec.Alg != "ES384" || rec.Digest == "" {
				t.Errorf("record %+v", rec)
			}
			if detached {
				q.Payload = []byte("another note")
				if v, err := w.VerifyJWS(ctx, q); !errors.Is(err, signer.ErrInvalid) {
					t.Errorf("VerifyJWS(%q) of another payload = %+v, %v; want ErrInvalid", form, v, err)
				}
			}
		}
	}
}

// TestVerifyJWSSignatures: of several signatures, one by a key that may be used is
// enough, and which it was is told.
func TestVerifyJWSSignatures(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	signatures := func(tokens ...string) string {
		var parts []string
		for _, token := range tokens {
			p := strings.Split(token, ".")
			parts = append(parts, fmt.Sprintf(`{"protected":%q,"signature":%q}`, p[0], p[2]))
		}
		return fmt.Sprintf(`{"payload":%q,"signatures":[%s]}`, strings.Split(tokens[0], ".")[1], strings.Join(parts, ","))
	}
	stranger := newWorld(t, nil)
	good := w.sign(t, w.theirs, jose.ES256, "t1", "text")
	unknown := stranger.sign(t, stranger.theirs, jose.ES256, "zz", "text")
	wrong := stranger.sign(t, stranger.theirs, jose.ES256, "t1", "text")
	for name, jws := range map[string]string{
		"alone": signatures(good), "behind a stranger": signatures(unknown, good), "behind a wrong one": signatures(wrong, good), "before both": signatures(good, unknown, wrong),
	} {
		if v, err := w.VerifyJWS(ctx, api.VerifyJWSRequest{JWS: jws}); err != nil || v.Key != "idp" || string(v.Payload) != "text" {
			t.Errorf("%s: VerifyJWS() = %+v, %v", name, v, err)
		}
	}
	if v, err := w.VerifyJWS(ctx, api.VerifyJWSRequest{JWS: good, Key: "idp"}); err != nil {
		t.Errorf("VerifyJWS() by idp = %+v, %v", v, err)
	}
	quoted := func(jws string) string {
		text, err := json.Marshal(jws)
		if err != nil {
			t.Fatal(err)
		}
		return `{"jws":` + string(text) + `}`
	}
	b64 := func(h string) string {
		text, _ := api.Bytes(h).MarshalText()
		return string(text)
	}
	payload := "." + canary + ".AAAA"
	w.checkRefusals(t, []refusal{
		{"strangers alone", api.VerifyJWS.Path, quoted(signatures(unknown, wrong)), "invalid", "signature"},
		{"an unknown kid", api.VerifyJWS.Path, quoted(unknown), "invalid", "kid"},
		{"another key than is wanted", api.VerifyJWS.Path, `{"jws":"` + good + `","key":"notes"}`, "invalid", "kid"},
		{"a key without the grant", api.VerifyJWS.Path, `{"jws":"` + good + `","key":"hidden"}`, "denied", `"hidden"`},
		{"an unknown key", api.VerifyJWS.Path, `{"jws":"` + good + `","key":"nothing"}`, "denied", `"nothing"`},
		{"none", api.VerifyJWS.Path, quoted(b64(`{"alg":"none"}`) + "." + canary + "."), "invalid", "alg"},
		{"a MAC with a public key", api.VerifyJWS.Path, quoted(b64(`{"alg":"HS256","kid":"t1"}`) + payload), "invalid", "kid and alg"},
		{"crit", api.VerifyJWS.Path, quoted(b64(`{"alg":"ES256","crit":["x"],"x":1}`) + payload), "invalid", `"crit"`},
		{"b64", api.VerifyJWS.Path, quoted(b64(`{"alg":"ES256","b64":false}`) + payload), "invalid", `"b64"`},
		{"a payload beside a payload", api.VerifyJWS.Path, `{"jws":"` + good + `","payload":"` + canary + `"}`, "invalid", "payload"},
		{"no JWS", api.VerifyJWS.Path, `{"jws":"` + canary + `"}`, "invalid", "jws"},
		{"an unknown serialization of a JWS", api.SignJWS.Path, `{"key":"notes","payload":"` + canary + `","serialization":"x"}`, "invalid", "serialization"},
	})
}

// TestEncryptForms: to a configured recipient and to our own key, in every form.
func TestEncryptForms(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	for _, form := range []string{"", api.Compact, api.Flattened, api.General} {
		sealed, err := w.EncryptJWE(ctx, api.EncryptJWERequest{Key: "partner", Plaintext: []byte("text"), Serialization: form})
		if err != nil || sealed.KID != "t1" {
			t.Fatalf("EncryptJWE(%q) = %+v, %v", form, sealed, err)
		}
		parse := jose.ParseEncryptedJSON
		if form == "" || form == api.Compact {
			parse = jose.ParseEncryptedCompact
		}
		jwe, err := parse(sealed.JWE, []jose.KeyAlgorithm{jose.ECDH_ES_A128KW}, []jose.ContentEncryption{jose.A128GCM})
		if err != nil {
			t.Fatalf("%q: go-jose: %v", form, err)
		}
		if got, err := jwe.Decrypt(w.theirs); err != nil || string(got) != "text" {
			t.Errorf("%q: go-jose opens it as %q, %v", form, got, err)
		}
		if rec := w.lastRecord(t); rec.Op != "encrypt" || rec.Key != "partner" || rec.KID != "t1" || rec.Alg != "ECDH-ES+A128KW" {
			t.Errorf("record %+v", rec)
		}
		ours, err := w.EncryptJWE(ctx, api.EncryptJWERequest{Key: "inbox", Plaintext: []byte("text"), Serialization: form})
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := w.DecryptJWE(ctx, api.DecryptJWERequest{JWE: ours.JWE}); err != nil || string(opened.Plaintext) != "text" {
			t.Errorf("DecryptJWE(%q) = %+v, %v", form, opened, err)
		}
	}
	w.checkRefusals(t, []refusal{
		{"an unknown serialization of a JWE", api.EncryptJWE.Path, `{"key":"partner","plaintext":"` + canary + `","serialization":"x"}`, "invalid", "serialization"},
		{"an issuer", api.EncryptJWE.Path, `{"key":"idp","plaintext":"` + canary + `"}`, "denied", `"idp"`},
		{"another enc", api.EncryptJWE.Path, `{"key":"partner","enc":"A256GCM","plaintext":"` + canary + `"}`, "denied", "enc"},
		{"an old JWE to a key that does not list RSA1_5", api.DecryptJWE.Path, `{"jwe":"` + canary + `","key":"shared"}`, "denied", "shared"},
	})
}

// TestTries: a JWE without a kid is tried with no more than a few keys.
func TestTries(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	e, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA1_5, Key: publicOf(t, w, "inbox")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := e.Encrypt([]byte("an old letter"))
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := obj.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := w.DecryptJWE(ctx, api.DecryptJWERequest{JWE: jwe}); err != nil || string(opened.Plaintext) != "an old letter" || opened.Header.Alg != "RSA1_5" {
		t.Errorf("DecryptJWE() of RSA1_5 without a kid = %+v, %v", opened, err)
	}
	parts := strings.Split(jwe, ".")
	parts[1] = strings.Repeat("A", len(parts[1]))
	if _, err := w.DecryptJWE(ctx, api.DecryptJWERequest{JWE: strings.Join(parts, ".")}); err == nil || err.Error() != signer.ErrDecrypt.Error() {
		t.Errorf("DecryptJWE() of a wrong padding = %v, want ErrDecrypt", err)
	}
}

// TestUnwrapRSA15: the CEK of a wrong padding is another each time, so none is given
// out.
func TestUnwrapRSA15(t *testing.T) {
	d := open(t, daemontest.Config{Keys: []daemontest.Key{{Name: "old", Algs: []signer.Alg{signer.RSA15}, Ops: []api.Op{api.OpUnwrap, api.OpUnwrapKey}}}})
	d.checkRefusals(t, []refusal{
		{"a CEK", api.UnwrapCEK.Path, `{"key":"old","alg":"RSA1_5","enc":"A128GCM","encrypted_key":"` + canary + `"}`, "unsupported", "RSA1_5"},
		{"a key", api.UnwrapKey.Path, `{"key":"old","alg":"RSA1_5","encrypted_key":"` + canary + `"}`, "unsupported", "RSA1_5"},
	})
}

func publicOf(t *testing.T, w *world, name string) any {
	t.Helper()
	k, err := w.Key(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return k.Versions[0].Public.Key
}

// TestMLDSA goes round with a key of the type AKP: JWS and JWT, made and verified by
// the daemon, which says what it is in its JWK set.
func TestMLDSA(t *testing.T) {
	rules := &policy.JWT{Issuer: issuerURL, Audiences: []string{"api"}, MaxTTL: time.Minute, Typ: "JWT"}
	d, ctx := open(t, daemontest.Config{Keys: []daemontest.Key{
		{Name: "pq", Algs: []signer.Alg{signer.MLDSA65}, JWT: rules, Ops: []api.Op{api.OpSignJWT, api.OpVerify, api.OpVerifyJWS}},
	}}), t.Context()
	signed, err := d.SignJWT(ctx, api.SignJWTRequest{Key: "pq", Claims: json.RawMessage(`{"aud":"api"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := d.VerifyJWT(ctx, api.VerifyJWTRequest{Token: signed.Token}); err != nil || v.Header.Alg != "ML-DSA-65" {
		t.Errorf("VerifyJWT() = %+v, %v", v, err)
	}
	if v, err := d.VerifyJWS(ctx, api.VerifyJWSRequest{JWS: signed.Token}); err != nil || v.Key != "pq" {
		t.Errorf("VerifyJWS() = %+v, %v", v, err)
	}
	set, err := d.JWKS(ctx)
	if err != nil || len(set.Keys) != 1 {
		t.Fatalf("JWKS() = %+v, %v", set, err)
	}
	if akp, ok := set.Keys[0].Key.(*signer.AKP); !ok || akp.Alg() != signer.MLDSA65 || set.Keys[0].KeyID != signed.KID {
		t.Errorf("JWKS() = %+v", set.Keys[0])
	}
	d.checkRefusals(t, []refusal{
		{"a wrong signature", api.VerifyJWT.Path, `{"token":"` + signed.Token[:len(signed.Token)-4] + `AAAA"}`, "invalid", "signature"},
	})
}
