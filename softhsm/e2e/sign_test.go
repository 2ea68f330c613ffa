package e2e

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
	"signetd/signer"
)

// jwk returns the public key with the given kid, from the daemon's JWKS.
func (p *process) jwk(kid string) jose.JSONWebKey {
	p.t.Helper()
	set := get[jose.JSONWebKeySet](p, api.GetJWKS.Path)
	keys := set.Key(kid)
	if len(keys) != 1 || !keys[0].IsPublic() {
		p.t.Fatalf("kid %q is %d times in the JWKS", kid, len(keys))
	}
	return keys[0]
}

// sign signs claims for the audience api.
func (p *process) sign(key, alg string) api.SignJWTResponse {
	p.t.Helper()
	return post[api.SignJWTResponse](p, api.SignJWT.Path, map[string]any{
		"key": key, "alg": alg, "claims": map[string]any{"sub": "alice", "aud": "api"}, "ttl": 300,
	})
}

func TestE2ESignJWT(t *testing.T) {
	p := start(t, newSettings(t))
	for _, tt := range []struct{ key, alg, typ string }{
		{"oidc", "ES256", "at+jwt"}, {"rsa", "RS256", "JWT"}, {"rsa", "PS256", "JWT"},
	} {
		t.Run(tt.alg+" verifies with go-jose and openssl", func(t *testing.T) {
			before := time.Now().Unix()
			got := p.sign(tt.key, tt.alg)
			jws, err := jose.ParseSignedCompact(got.Token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(tt.alg)})
			if err != nil {
				t.Fatal(err)
			}

			public := p.jwk(got.KID)
			payload, err := jws.Verify(public)
			if err != nil {
				t.Fatal(err)
			}
			var header map[string]string
			unmarshalPart(t, strings.Split(got.Token, ".")[0], &header)

			if len(header) != 3 || header["alg"] != tt.alg || header["kid"] != got.KID || header["typ"] != tt.typ {
				t.Errorf("header %v, want alg %s, kid %s, typ %s and no more", header, tt.alg, got.KID, tt.typ)
			}
			checkFilledIn(t, payload, before)
			opensslVerify(t, public, tt.alg, got.Token)
			verified := post[api.VerifyJWTResponse](p, api.VerifyJWT.Path, api.VerifyJWTRequest{Token: got.Token, Issuer: issuer, Audience: "api"})
			if verified.Key != tt.key {
				t.Errorf("verify names key %q, want %q", verified.Key, tt.key)
			}
		})
	}

	t.Run("a token in other words does not verify", func(t *testing.T) {
		token := p.sign("oidc", "").Token
		parts := strings.Split(token, ".")
		none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
		for name, bad := range map[string]string{
			"a spare bit set": setSpareBit(token), "a line break": token + "\n", "a line break inside": parts[0] + "\r\n." + parts[1] + "." + parts[2],
			"padding": token + "==", "alg none": none + "." + parts[1] + ".", "no signature": parts[0] + "." + parts[1] + ".",
			"other claims": parts[0] + "." + strings.Split(p.sign("oidc", "").Token, ".")[1] + "." + parts[2], "empty": "", "garbage": "\x00",
		} {
			if msg := p.do(http.MethodPost, api.VerifyJWT.Path, api.VerifyJWTRequest{Token: bad}).wantError(t, http.StatusBadRequest, "invalid"); msg == "" {
				t.Errorf("%s: no reason", name)
			}
		}
		for _, q := range []api.VerifyJWTRequest{{Token: token, Issuer: "https://evil.example"}, {Token: token, Audience: "billing"}} {
			p.do(http.MethodPost, api.VerifyJWT.Path, q).wantError(t, http.StatusBadRequest, "invalid")
		}
	})

	t.Run("two tokens differ in jti", func(t *testing.T) {
		a, b := p.sign("oidc", ""), p.sign("oidc", "")
		if claim(t, a.Token, "jti") == claim(t, b.Token, "jti") {
			t.Error("they have the same jti")
		}
	})

	t.Run("the record holds jti, exp and a hash and no claim", func(t *testing.T) {
		got := p.sign("oidc", "")
		list := p.records(t)
		r := list[len(list)-1]
		if r.Outcome != "ok" || r.Key != "oidc" || r.KID != got.KID || r.Alg != "ES256" || r.JTI != claim(t, got.Token, "jti") || r.Digest == "" || r.Exp == 0 {
			t.Errorf("record %+v", r)
		}
		if strings.Contains(readFile(t, p.path("audit.jsonl")), "alice") {
			t.Error("the audit log holds the sub")
		}
	})
}

func checkFilledIn(t *testing.T, payload []byte, before int64) {
	t.Helper()
	var c struct {
		Iss, Sub, Aud, JTI string
		Iat, Exp           int64
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	if c.Iss != issuer || c.Sub != "alice" || c.Aud != "api" || len(c.JTI) != 22 || c.Iat < before || c.Iat > now || c.Exp != c.Iat+300 {
		t.Errorf("claims %s, want iss %s, iat from %d to %d, exp 300 s later, a jti of 128 bits", payload, issuer, before, now)
	}
}

func unmarshalPart(t *testing.T, part string, into any) {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func claim(t *testing.T, token, name string) any {
	t.Helper()
	var claims map[string]any
	unmarshalPart(t, strings.Split(token, ".")[1], &claims)
	return claims[name]
}

// opensslVerify verifies a token with the openssl command, which shares no code with
// signetd or Go.
func opensslVerify(t *testing.T, public jose.JSONWebKey, alg, token string) {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is missing: the tests verify with it")
	}
	der, err := x509.MarshalPKIXPublicKey(public.Key)
	if err != nil {
		t.Fatal(err)
	}

	cut := strings.LastIndex(token, ".")
	sig, err := base64.RawURLEncoding.DecodeString(token[cut+1:])
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(alg, "ES") {
		if sig, err = signer.DERECDSA(sig); err != nil {
			t.Fatal(err)
		}
	}

	dir := t.TempDir()
	pub, sigFile := filepath.Join(dir, "pub.pem"), filepath.Join(dir, "sig")
	writeFile(t, pub, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	writeFile(t, sigFile, string(sig))
	args := []string{"dgst", "-sha256", "-verify", pub, "-signature", sigFile}
	if strings.HasPrefix(alg, "PS") {
		args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest", "-sigopt", "rsa_mgf1_md:sha256")
	}

	for _, tt := range []struct{ input, want string }{{token[:cut], "Verified OK"}, {token[:cut] + "x", "Verification failure"}} {
		cmd := exec.CommandContext(t.Context(), openssl, args...)
		cmd.Stdin = strings.NewReader(tt.input)
		out, _ := cmd.CombinedOutput() // the exit status of the second run is 1
		if !strings.Contains(string(out), tt.want) {
			t.Errorf("openssl %v: %s, want %s", args, out, tt.want)
		}
	}
}

// claims that break the key's rules, or are none.
func TestE2EClaimPolicy(t *testing.T) {
	p := start(t, newSettings(t).oneKey())
	now := time.Now().Unix()
	const secret = "do-not-echo-7d1f" // #nosec G101 -- made up
	tests := []struct {
		name, body, code string
	}{
		{"another issuer", `{"key":"oidc","claims":{"aud":"api","iss":"https://` + secret + `"}}`, "denied"},
		{"no audience", `{"key":"oidc","claims":{"sub":"` + secret + `"}}`, "denied"},
		{"an empty array of audiences", `{"key":"oidc","claims":{"aud":[],"sub":"` + secret + `"}}`, "denied"},
		{"a foreign audience", `{"key":"oidc","claims":{"aud":"` + secret + `"}}`, "denied"},
		{"a foreign audience among good ones", `{"key":"oidc","claims":{"aud":["api","` + secret + `"]}}`, "denied"},
		{"an audience that is a number", `{"key":"oidc","claims":{"aud":7}}`, "invalid"},
		{"ttl above max_ttl", `{"key":"oidc","claims":{"aud":"api"},"ttl":901}`, "denied"},
		{"ttl below zero", `{"key":"oidc","claims":{"aud":"api"},"ttl":-1}`, "invalid"},
		{"ttl that overflows", `{"key":"oidc","claims":{"aud":"api"},"ttl":9223372036854775807}`, "invalid"},
		{"ttl that is a fraction", `{"key":"oidc","claims":{"aud":"api"},"ttl":0.5}`, "invalid"},
		{"exp in the past", fmt.Sprintf(`{"key":"oidc","claims":{"aud":"api","exp":%d}}`, now-5), "denied"},
		{"exp too far away", fmt.Sprintf(`{"key":"oidc","claims":{"aud":"api","exp":%d}}`, now+1000), "denied"},
		{"exp so far away that time overflows", `{"key":"oidc","claims":{"aud":"api","exp":9007199254740991}}`, "denied"},
		{"exp with an exponent", `{"key":"oidc","claims":{"aud":"api","exp":2e9}}`, "invalid"},
		{"exp that is null", `{"key":"oidc","claims":{"aud":"api","exp":null}}`, "invalid"},
		{"exp and iat moved into the future together", fmt.Sprintf(`{"key":"oidc","claims":{"aud":"api","iat":%d,"exp":%d}}`, now+3600, now+3700), "denied"},
		{"nbf after exp", fmt.Sprintf(`{"key":"oidc","claims":{"aud":"api","nbf":%d}}`, now+5000), "denied"},
		{"ttl and exp", fmt.Sprintf(`{"key":"oidc","claims":{"aud":"api","exp":%d},"ttl":60}`, now+60), "invalid"},
		{"another typ", `{"key":"oidc","claims":{"aud":"api"},"header":{"typ":"` + secret + `"}}`, "denied"},
		{"the key's typ in capitals", `{"key":"oidc","claims":{"aud":"api"},"header":{"typ":"AT+JWT"}}`, "denied"},
		{"a cty", `{"key":"oidc","claims":{"aud":"api"},"header":{"cty":"JWT"}}`, "denied"},
		{"an alg in the header", `{"key":"oidc","claims":{"aud":"api"},"header":{"alg":"none"}}`, "invalid"},
		{"a kid in the header", `{"key":"oidc","claims":{"aud":"api"},"header":{"kid":"` + secret + `"}}`, "invalid"},
		{"alg none", `{"key":"oidc","claims":{"aud":"api"},"alg":"none"}`, "unsupported"},
		{"an alg that the key has not", `{"key":"oidc","claims":{"aud":"api"},"alg":"ES384"}`, "unsupported"},
		{"an issuer by another case", `{"key":"oidc","claims":{"aud":"api","Iss":"https://` + secret + `"}}`, "invalid"},
		{"two names that differ in case", `{"key":"oidc","claims":{"aud":"api","role":"a","Role":"` + secret + `"}}`, "invalid"},
		{"an issuer by an escape", `{"key":"oidc","claims":{"aud":"api","\u0069ss":"https://` + secret + `"}}`, "denied"},
		{"iss twice", `{"key":"oidc","claims":{"aud":"api","iss":"https://id.example.com","iss":"` + secret + `"}}`, "invalid"},
		{"iss twice, once by an escape", `{"key":"oidc","claims":{"aud":"api","iss":"https://id.example.com","is\u0073":"` + secret + `"}}`, "invalid"},
		{"a member twice below", `{"key":"oidc","claims":{"aud":"api","a":{"b":[{"c":1,"c":"` + secret + `"}]}}}`, "invalid"},
		{"key twice", `{"key":"oidc","key":"oidc","claims":{"aud":"api"}}`, "invalid"},
		{"a member that no request has", `{"key":"oidc","claims":{"aud":"api"},"` + secret + `":1}`, "invalid"},
		{"a member by another case", `{"KEY":"oidc","claims":{"aud":"api"}}`, "invalid"},
		{"claims that are an array", `{"key":"oidc","claims":["` + secret + `"]}`, "invalid"},
		{"claims that are null", `{"key":"oidc","claims":null}`, "invalid"},
		{"no claims", `{"key":"oidc"}`, "invalid"},
		{"claims with invalid UTF-8", "{\"key\":\"oidc\",\"claims\":{\"aud\":\"api\",\"x\":\"\xff" + secret + "\"}}", "invalid"},
		{"claims with half a surrogate pair", `{"key":"oidc","claims":{"aud":"api","x":"\ud800` + secret + `"}}`, "invalid"},
		{"something after the body", `{"key":"oidc","claims":{"aud":"api"}} "` + secret + `"`, "invalid"},
		{"a body that ends early", `{"key":"oidc","claims":{"aud":"` + secret, "invalid"},
		{"an empty body", ``, "invalid"},
		{"deep nesting", `{"key":"oidc","claims":{"aud":"api","x":` + strings.Repeat("[", 200000) + strings.Repeat("]", 200000) + `}}`, "invalid"},
	}

	status := map[string]int{"denied": 403, "invalid": 400, "unsupported": 422}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := p.do(http.MethodPost, api.SignJWT.Path, tt.body)
			a.wantError(t, status[tt.code], tt.code)
			list := p.records(t)
			if r := list[len(list)-1]; r.Outcome != tt.code || r.Op != "sign-jwt" || tt.code == "denied" && r.Rule == "" {
				t.Errorf("record %+v, want outcome %s", r, tt.code)
			}
			if strings.Contains(string(a.body), secret) && tt.name != "a member that no request has" {
				t.Errorf("the answer echoes the request: %s", a.body)
			}
		})
	}

	if log := readFile(t, p.path("audit.jsonl")) + p.stderr.String(); strings.Count(log, secret) > 2 {
		t.Errorf("log and audit log hold what was in requests %d times", strings.Count(log, secret))
	}
	if got := p.sign("oidc", ""); claim(t, got.Token, "iss") != issuer {
		t.Error("good claims are not signed any more")
	}
}
