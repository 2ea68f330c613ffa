package daemon_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/daemon/daemontest"
	"signetd/daemon/policy"
	"signetd/signer"
)

const issuerURL = "https://id.example"

// A world is two parties: the daemon under test, and another with keys of its
// own.
type world struct {
	door
	theirs  *ecdsa.PrivateKey  // what they encrypt to, and sign with
	another ed25519.PrivateKey // their second key
}

func newWorld(t *testing.T, change func(*daemontest.Config)) *world {
	t.Helper()
	w := &world{}
	var err error
	if w.theirs, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, w.another, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	rules := &policy.JWT{Issuer: issuerURL, Audiences: []string{"api"}, MaxTTL: time.Minute, Typ: "at+jwt"}
	all := []api.Op{api.OpSignJWT, api.OpSealJWT, api.OpVerify, api.OpVerifyJWS}
	c := daemontest.Config{
		Ops: []api.Op{api.OpEncryptJWK},
		Keys: []daemontest.Key{
			{Name: "oidc", Algs: []signer.Alg{signer.ES256}, KID: "o", JWT: rules, Ops: all},
			{Name: "sealed", Algs: []signer.Alg{signer.PS256}, KID: "s", JWT: rules, Ops: []api.Op{api.OpSealJWT}},
			{Name: "notes", Algs: []signer.Alg{signer.ES384}, KID: "n", Ops: []api.Op{api.OpSignJWS, api.OpVerifyJWS}},
			{Name: "inbox", Algs: []signer.Alg{signer.RSAOAEP256, signer.RSA15}, KID: "i", Ops: []api.Op{api.OpOpenJWT, api.OpEncrypt, api.OpDecrypt}},
			{Name: "shared", Algs: []signer.Alg{signer.A256KW}, KID: "sh", Ops: []api.Op{api.OpOpenJWT, api.OpEncrypt}},
			{Name: "outbox", Algs: []signer.Alg{signer.RSAOAEP}, KID: "ob", Ops: []api.Op{api.OpEncrypt}},
			{Name: "hidden", Algs: []signer.Alg{signer.ES256}, KID: "h", JWT: rules},
		},
		Issuers: []daemon.Issuer{{
			Name: "idp", Algs: []signer.Alg{signer.ES256, signer.EdDSA}, Accept: accept(t, "https://idp.example", "us", signer.ES256, signer.EdDSA),
			Keys: []signer.JWK{
				{JSONWebKey: jose.JSONWebKey{Key: &w.theirs.PublicKey, KeyID: "t1"}},
				{JSONWebKey: jose.JSONWebKey{Key: w.another.Public(), KeyID: "t2", Algorithm: "EdDSA"}},
			},
		}, {
			Name: "own", Algs: []signer.Alg{signer.ES384}, Accept: accept(t, "https://notes.example", "us", signer.ES384), Key: "notes",
		}},
		Recipients: []daemon.Recipient{{Name: "partner", Public: &w.theirs.PublicKey, KID: "t1", Alg: signer.ECDHESA128KW, Enc: "A128GCM"}},
	}
	if change != nil {
		change(&c)
	}
	w.door = open(t, c)
	return w
}

func accept(t *testing.T, issuer, audience string, algs ...signer.Alg) *policy.Verifier {
	t.Helper()
	a := policy.Accept{Algs: algs, Issuers: []string{issuer}, Audiences: []string{audience}, Required: []string{"sub"}}
	v, err := a.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sign signs as they do. A header with no kid has an empty one.
func (w *world) sign(t *testing.T, key any, alg jose.SignatureAlgorithm, kid, claims string) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := s.Sign([]byte(claims))
	if err != nil {
		t.Fatal(err)
	}
	token, err := obj.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// unseal opens as they do, and returns the header and the payload of the token.
func (w *world) unseal(t *testing.T, token string) (outer jose.Header, inner jose.Header, claims string) {
	t.Helper()
	jwe, err := jose.ParseEncryptedCompact(token, []jose.KeyAlgorithm{jose.ECDH_ES_A128KW, jose.ECDH_ES}, []jose.ContentEncryption{jose.A128GCM, jose.A256GCM})
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := jwe.Decrypt(w.theirs)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(string(plaintext), []jose.SignatureAlgorithm{jose.ES256, jose.PS256})
	if err != nil {
		t.Fatal(err)
	}
	return jwe.Header, jws.Signatures[0].Header, string(jws.UnsafePayloadWithoutVerification())
}

// claims of theirs that are valid for a minute.
func theirClaims(more string) string {
	return fmt.Sprintf(`{"iss":"https://idp.example","aud":"us","sub":"bob","exp":%d%s}`, time.Now().Add(time.Minute).Unix(), more)
}

func TestSealJWT(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	claims := json.RawMessage(`{"aud":"api","sub":"alice","password":"hunter2"}`)
	if _, err := w.SignJWT(ctx, api.SignJWTRequest{Key: "oidc", Claims: claims}); !errors.Is(err, signer.ErrDenied) {
		t.Errorf("SignJWT() with a secret = %v, want ErrDenied: it is allowed in a sealed token alone", err)
	}
	sealed, err := w.SealJWT(ctx, api.SealJWTRequest{Key: "oidc", Claims: claims, To: "partner", TTL: 30})
	if err != nil || sealed.KID != "o" || sealed.RecipientKID != "t1" {
		t.Fatalf("SealJWT() = %+v, %v", sealed, err)
	}
	rec := w.lastRecord(t)
	if rec.Op != "seal-jwt" || rec.Key != "oidc" || rec.KID != "o" || rec.Alg != "ES256" || rec.To != "partner" || rec.JTI == "" || rec.Digest == "" || rec.Object == "" || rec.Exp == 0 {
		t.Errorf("record %+v", rec)
	}
	outer, inner, payload := w.unseal(t, sealed.Token)
	if outer.Algorithm != "ECDH-ES+A128KW" || outer.KeyID != "t1" || outer.ExtraHeaders["cty"] != "JWT" || outer.ExtraHeaders["enc"] != "A128GCM" {
		t.Errorf("the header of the JWE is %+v", outer)
	}
	if inner.KeyID != "o" || inner.ExtraHeaders["typ"] != "at+jwt" || !strings.Contains(payload, "hunter2") || !strings.Contains(payload, issuerURL) {
		t.Errorf("the token is %+v %s", inner, payload)
	}
	jwk := &jose.JSONWebKey{Key: &w.theirs.PublicKey, Algorithm: "ECDH-ES"}
	sealed, err = w.SealJWT(ctx, api.SealJWTRequest{Key: "sealed", Claims: json.RawMessage(`{"aud":"api"}`), Recipient: jwk})
	if err != nil {
		t.Fatal(err)
	}
	if outer, inner, _ := w.unseal(t, sealed.Token); outer.Algorithm != "ECDH-ES" || inner.Algorithm != "PS256" {
		t.Errorf("headers %+v, %+v", outer, inner)
	}
	if rec := w.lastRecord(t); !strings.HasPrefix(rec.To, "jwk ") || rec.Key != "sealed" {
		t.Errorf("record %+v, want the thumbprint of the recipient", rec)
	}
	if log := text(t, w.AuditLog()); strings.Contains(log, "hunter2") || strings.Contains(log, sealed.Token[:20]) {
		t.Error("the audit log holds claims, or a token")
	}
}

func TestSealJWTRefused(t *testing.T) {
	w := newWorld(t, nil)
	jwk := `{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"`
	body := func(key, rest string) string {
		return `{"key":"` + key + `","claims":{"aud":"api","x":"` + canary + `"},` + rest + `}`
	}
	w.checkRefusals(t, []refusal{
		{"an unknown key", api.SealJWT.Path, body("nothing", `"to":"partner"`), "denied", `"nothing"`},
		{"a hidden key", api.SealJWT.Path, body("hidden", `"to":"partner"`), "denied", `"hidden"`},
		{"a key without the grant", api.SealJWT.Path, body("notes", `"to":"partner"`), "denied", "seal-jwt"},
		{"an unknown recipient", api.SealJWT.Path, body("oidc", `"to":"nobody"`), "denied", `encrypt with key "nobody"`},
		{"a recipient that is an issuer", api.SealJWT.Path, body("oidc", `"to":"idp"`), "denied", `"idp"`},
		{"no recipient", api.SealJWT.Path, body("oidc", `"ttl":1`), "invalid", "to and recipient"},
		{"two recipients", api.SealJWT.Path, body("oidc", `"to":"partner","recipient":`+jwk+`,"alg":"ECDH-ES"}`), "invalid", "to and recipient"},
		{"a recipient without alg", api.SealJWT.Path, body("oidc", `"recipient":`+jwk+`}`), "invalid", "recipient"},
		{"RSA1_5", api.SealJWT.Path, body("oidc", `"recipient":`+jwk+`,"alg":"RSA1_5"}`), "unsupported", "RSA1_5"},
		{"PBES2", api.SealJWT.Path, body("oidc", `"recipient":`+jwk+`,"alg":"PBES2-HS256+A128KW"}`), "unsupported", "PBES2"},
		{"another enc than the recipient's", api.SealJWT.Path, body("oidc", `"to":"partner","enc":"A256GCM"`), "denied", "enc"},
		{"an unknown enc", api.SealJWT.Path, body("oidc", `"to":"inbox","enc":"A512GCM"`), "unsupported", "A512GCM"},
		{"claims that break the rules", api.SealJWT.Path, `{"key":"oidc","claims":{"aud":"` + canary + `"},"to":"partner"}`, "denied", "aud"},
		{"an unknown member", api.SealJWT.Path, body("oidc", `"too":"partner"`), "invalid", "/too"},
		{"a typ that is not the key's", api.SealJWT.Path, body("oidc", `"to":"partner","header":{"typ":"secevent+jwt"}`), "denied", "typ"},
	})
	w = newWorld(t, func(c *daemontest.Config) { c.Ops = nil })
	w.checkRefusals(t, []refusal{
		{"a key in the request without the grant", api.SealJWT.Path, body("oidc", `"recipient":`+jwk+`,"alg":"ECDH-ES"}`), "denied", "encrypt-jwk"},
	})
}

// TestOpenJWT opens what we sealed, and what they did.
func TestOpenJWT(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	for _, to := range []string{"inbox", "shared"} {
		sealed, err := w.SealJWT(ctx, api.SealJWTRequest{Key: "oidc", Claims: json.RawMessage(`{"aud":"api","pin":"hunter2"}`), To: to})
		if err != nil {
			t.Fatal(err)
		}
		object := w.lastRecord(t).Object
		opened, err := w.OpenJWT(ctx, api.OpenJWTRequest{Token: sealed.Token, Audience: "api", Issuer: issuerURL})
		if err != nil || opened.Key != "oidc" || opened.Header.KID != "o" || opened.Sealed.Cty != "JWT" || !strings.Contains(string(opened.Claims), "hunter2") {
			t.Fatalf("OpenJWT() = %+v, %v", opened, err)
		}
		if rec := w.lastRecord(t); rec.Op != "open-jwt" || rec.Key != to || rec.SignedBy != "oidc" || rec.Object != object || rec.JTI == "" {
			t.Errorf("record %+v", rec)
		}
	}
	token := w.sign(t, w.theirs, jose.ES256, "t1", theirClaims(""))
	sealed, err := w.EncryptJWE(ctx, api.EncryptJWERequest{Key: "inbox", Plaintext: []byte(token), Header: &api.Header{Cty: "jwt"}})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := w.OpenJWT(ctx, api.OpenJWTRequest{Token: sealed.JWE, Key: "inbox"})
	if err != nil || opened.Key != "idp" || opened.Header.KID != "t1" || !strings.Contains(string(opened.Claims), `"bob"`) {
		t.Errorf("OpenJWT() = %+v, %v; want what idp signed", opened, err)
	}
	if log := text(t, w.AuditLog()); strings.Contains(log, "hunter2") || strings.Contains(log, "bob") {
		t.Error("the audit log holds claims")
	}
}

// TestOpenJWTRefuses: what does not open has one error; what opens and is not
// valid says why.
func TestOpenJWTRefuses(t *testing.T) {
	w, ctx := newWorld(t, nil), t.Context()
	seal := func(cty, plaintext string) string {
		s, err := w.EncryptJWE(ctx, api.EncryptJWERequest{Key: "inbox", Plaintext: []byte(plaintext), Header: &api.Header{Cty: cty}})
		if err != nil {
			t.Fatal(err)
		}
		return s.JWE
	}
	good := seal("JWT", w.sign(t, w.theirs, jose.ES256, "t1", theirClaims("")))
	parts := strings.Split(good, ".")
	for i := range parts {
		bad := append([]string(nil), parts...)
		bad[i] = strings.Repeat("A", len(bad[i]))
		if _, err := w.OpenJWT(ctx, api.OpenJWTRequest{Token: strings.Join(bad, ".")}); !errors.Is(err, signer.ErrDecrypt) || err.Error() != signer.ErrDecrypt.Error() {
			t.Errorf("OpenJWT(part %d damaged) = %v, want ErrDecrypt and no more", i, err)
		}
	}
	past := strings.Replace(theirClaims(""), `"exp":1`, `"exp":`, 1)
	ask := func(token string) string { return `{"token":"` + token + `"}` }
	w.checkRefusals(t, []refusal{
		{"no cty", api.OpenJWT.Path, ask(seal("", w.sign(t, w.theirs, jose.ES256, "t1", theirClaims("")))), "invalid", "cty"},
		{"claims without a signature", api.OpenJWT.Path, ask(seal("JWT", theirClaims(`,"x":"hunter2"`))), "invalid", "compact"},
		{"an unknown kid", api.OpenJWT.Path, ask(seal("JWT", w.sign(t, w.theirs, jose.ES256, "hunter2", theirClaims("")))), "invalid", "kid"},
		{"another key", api.OpenJWT.Path, ask(seal("JWT", w.sign(t, w.another, jose.EdDSA, "t1", theirClaims("")))), "invalid", "kid and alg"},
		{"expired", api.OpenJWT.Path, ask(seal("JWT", w.sign(t, w.theirs, jose.ES256, "t1", past))), "invalid", "expired"},
		{"another audience", api.OpenJWT.Path, ask(seal("JWT", w.sign(t, w.theirs, jose.ES256, "t1", strings.Replace(theirClaims(""), `"us"`, `"hunter2"`, 1)))), "invalid", "aud"},
		{"a required claim missing", api.OpenJWT.Path, ask(seal("JWT", w.sign(t, w.theirs, jose.ES256, "t1", strings.Replace(theirClaims(""), `"sub"`, `"su"`, 1)))), "invalid", "sub"},
		{"an audience that is wanted", api.OpenJWT.Path, `{"token":"` + good + `","audience":"hunter2"}`, "invalid", "aud"},
		{"a key without the grant", api.OpenJWT.Path, `{"token":"` + good + `","key":"outbox"}`, "denied", "outbox"},
		{"an unknown key", api.OpenJWT.Path, `{"token":"` + good + `","key":"nothing"}`, "denied", "nothing"},
	})
	w = newWorld(t, func(c *daemontest.Config) {
		c.Issuers = nil
		c.Keys = c.Keys[3:4]
	})
	if _, err := w.OpenJWT(ctx, api.OpenJWTRequest{Token: good}); !errors.Is(err, signer.ErrDenied) {
		t.Errorf("OpenJWT() by a peer that may verify nothing = %v, want ErrDenied", err)
	}
}
