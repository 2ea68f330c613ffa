package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"signetd/daemon/policy"
	"signetd/signer"
)

var now = time.Unix(1_800_000_000, 0)

var compiled = must(rules.Compile())

func must(r *policy.Rules, err error) *policy.Rules {
	if err != nil {
		panic(err)
	}
	return r
}

func TestApply(t *testing.T) {
	tests := []struct {
		name   string
		claims string
		ttl    time.Duration
		want   string // the payload, with JTI for the generated id; or empty
		err    error
		rule   string
	}{
		{name: "filled in", claims: `{"sub":"a","aud":"api"}`,
			want: `{"sub":"a","aud":"api","iss":"https://id.example","iat":1800000000,"nbf":1799999940,"exp":1800000900,"jti":"JTI"}`},
		{name: "ttl", claims: `{"aud":["api","web"]}`, ttl: time.Minute,
			want: `{"aud":["api","web"],"iss":"https://id.example","iat":1800000000,"nbf":1799999940,"exp":1800000060,"jti":"JTI"}`},
		{name: "all given", claims: ` { "exp": 1800000010, "iat":1799999990,"nbf":1799999990, "iss":"https://id.example","aud":"web","jti":"x","n":1.50e3}`,
			want: `{"exp":1800000010,"iat":1799999990,"nbf":1799999990,"iss":"https://id.example","aud":"web","jti":"x","n":1.50e3}`},
		{name: "foreign issuer", claims: `{"aud":"api","iss":"https://evil.example"}`, err: signer.ErrDenied, rule: "iss"},
		{name: "issuer of another type", claims: `{"aud":"api","iss":1}`, err: signer.ErrInvalid, rule: "iss"},
		{name: "empty issuer", claims: `{"aud":"api","iss":""}`, err: signer.ErrInvalid, rule: "iss"},
		{name: "no audience", claims: `{}`, err: signer.ErrDenied, rule: "aud"},
		{name: "empty audiences", claims: `{"aud":[]}`, err: signer.ErrDenied, rule: "aud"},
		{name: "foreign audience", claims: `{"aud":["api","evil"]}`, err: signer.ErrDenied, rule: "aud"},
		{name: "audience of another type", claims: `{"aud":{"api":1}}`, err: signer.ErrInvalid, rule: "aud"},
		{name: "audience null", claims: `{"aud":null}`, err: signer.ErrInvalid, rule: "aud"},
		{name: "ttl too long", claims: `{"aud":"api"}`, ttl: 16 * time.Minute, err: signer.ErrDenied, rule: "ttl"},
		{name: "ttl below zero", claims: `{"aud":"api"}`, ttl: -time.Minute, err: signer.ErrInvalid, rule: "ttl"},
		{name: "ttl of half a second", claims: `{"aud":"api"}`, ttl: time.Second / 2, err: signer.ErrInvalid, rule: "ttl"},
		{name: "ttl and exp", claims: `{"aud":"api","exp":1800000010}`, ttl: time.Minute, err: signer.ErrInvalid, rule: "exp"},
		{name: "exp too late", claims: `{"aud":"api","exp":1800000901}`, err: signer.ErrDenied, rule: "exp"},
		{name: "exp too late for an early iat", claims: `{"aud":"api","iat":1799999990,"exp":1800000891}`, err: signer.ErrDenied, rule: "exp"},
		{name: "exp passed", claims: `{"aud":"api","exp":1800000000}`, err: signer.ErrDenied, rule: "exp"},
		{name: "exp a fraction", claims: `{"aud":"api","exp":1800000010.5}`, err: signer.ErrInvalid, rule: "exp"},
		{name: "exp an exponent", claims: `{"aud":"api","exp":18e8}`, err: signer.ErrInvalid, rule: "exp"},
		{name: "exp a string", claims: `{"aud":"api","exp":"1800000010"}`, err: signer.ErrInvalid, rule: "exp"},
		{name: "exp huge", claims: `{"aud":"api","exp":9223372036854775807}`, err: signer.ErrInvalid, rule: "number"},
		{name: "exp below zero", claims: `{"aud":"api","exp":-1}`, err: signer.ErrInvalid, rule: "exp"},
		{name: "iat long ago", claims: `{"aud":"api","iat":1799999000}`, err: signer.ErrDenied, rule: "iat"},
		{name: "iat in the future", claims: `{"aud":"api","iat":1800000100}`, err: signer.ErrDenied, rule: "iat"},
		{name: "nbf after exp", claims: `{"aud":"api","nbf":1800000900}`, err: signer.ErrDenied, rule: "nbf"},
		{name: "jti of another type", claims: `{"aud":"api","jti":7}`, err: signer.ErrInvalid, rule: "jti"},
		{name: "case variant", claims: `{"aud":"api","Iss":"https://evil.example"}`, err: signer.ErrInvalid, rule: "case"},
		{name: "case variant of one given", claims: `{"aud":"api","AUD":"evil"}`, err: signer.ErrInvalid, rule: "case"},
		{name: "case variant of any name", claims: `{"aud":"api","Role":"user","role":"admin"}`, err: signer.ErrInvalid, rule: "case"},
		{name: "long s", claims: `{"aud":"api","iss":"https://id.example","i\u017fs":"https://evil.example"}`, err: signer.ErrInvalid, rule: "case"},
		{name: "long s alone", claims: `{"aud":"api","i\u017f\u017f":"https://evil.example"}`, err: signer.ErrInvalid, rule: "case"},
		{name: "Turkish i", claims: `{"aud":"api","\u0131at":0,"jt\u0130":"evil"}`, err: signer.ErrInvalid, rule: "case"},
		{name: "Kelvin sign", claims: `{"aud":"api","kid":1,"\u212aid":2}`, err: signer.ErrInvalid, rule: "case"},
		{name: "twice", claims: `{"aud":"api","aud":"evil"}`, err: signer.ErrInvalid, rule: "duplicate"},
		{name: "twice by escape", claims: `{"aud":"api","\u0061ud":"evil"}`, err: signer.ErrInvalid, rule: "duplicate"},
		{name: "twice at depth", claims: `{"aud":"api","x":[{"y":1,"y":2}]}`, err: signer.ErrInvalid, rule: "duplicate"},
		{name: "invalid UTF-8", claims: "{\"aud\":\"api\",\"x\":\"\xff\"}", err: signer.ErrInvalid, rule: "strict"},
		{name: "array", claims: `[]`, err: signer.ErrInvalid, rule: "object"},
		{name: "null", claims: `null`, err: signer.ErrInvalid, rule: "object"},
		{name: "nothing", claims: ``, err: signer.ErrInvalid, rule: "object"},
		{name: "cut short", claims: `{"aud":"api"`, err: signer.ErrInvalid, rule: ""},
		{name: "something behind", claims: `{"aud":"api"} {}`, err: signer.ErrInvalid, rule: "follows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := compiled.Apply(policy.ClaimsRequest{Claims: []byte(tt.claims), TTL: tt.ttl}, now)
			if !errors.Is(err, tt.err) {
				t.Fatalf("Apply() = %v, want %v", err, tt.err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tt.rule) || strings.Contains(err.Error(), "evil") {
					t.Errorf("Apply() = %q, want it to name %q and no value", err, tt.rule)
				}
				return
			}

			if want := strings.Replace(tt.want, "JTI", c.JTI, 1); string(c.Payload) != want {
				t.Errorf("Apply() = %s, want %s", c.Payload, want)
			}
			if v, err := compiled.Verifier().Verify(policy.Token{Payload: c.Payload, Typ: "at+jwt"}, policy.Want{}, now); err != nil || v.JTI != c.JTI || !v.Exp.Equal(c.Exp) {
				t.Errorf("Verify() of what Apply made = %v", err)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	claims := func(change string) string {
		return `{"iss":"https://id.example","aud":["api","other"],"exp":1800000900,"iat":1800000000` + change + `}`
	}
	tests := []struct {
		name, claims, typ, issuer, audience string
		at                                  time.Time
		want                                string // in the error; empty for none
	}{
		{"valid", claims(""), "at+jwt", "", "", now, ""},
		{"typ with application/", claims(""), "application/AT+JWT", "", "", now, ""},
		{"wanted issuer and audience", claims(""), "at+jwt", "https://id.example", "api", now, ""},
		{"just expired, within the skew", claims(""), "at+jwt", "", "", now.Add(15*time.Minute + 59*time.Second), ""},
		{"expired", claims(""), "at+jwt", "", "", now.Add(16 * time.Minute), "expired"},
		{"no exp", `{"iss":"https://id.example","aud":"api"}`, "at+jwt", "", "", now, "exp is missing"},
		{"not yet", claims(`,"nbf":1800000061`), "at+jwt", "", "", now, "nbf"},
		{"from the future", claims(""), "at+jwt", "", "", now.Add(-61 * time.Second), "iat"},
		{"another typ", claims(""), "JWT", "", "", now, "typ"},
		{"no typ", claims(""), "", "", "", now, "typ"},
		{"another issuer wanted", claims(""), "at+jwt", "https://x", "", now, "iss"},
		{"another audience wanted", claims(""), "at+jwt", "", "web", now, "aud"},
		{"no issuer", `{"aud":"api","exp":1800000900}`, "at+jwt", "", "", now, "iss"},
		{"no audience", `{"iss":"https://id.example","exp":1800000900}`, "at+jwt", "", "", now, "aud"},
		{"foreign audience", `{"iss":"https://id.example","aud":"x","exp":1800000900}`, "at+jwt", "", "", now, "aud"},
		{"jti of another type", claims(`,"jti":7`), "at+jwt", "", "", now, "jti"},
		{"not JSON", `x`, "at+jwt", "", "", now, "object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := compiled.Verifier().Verify(policy.Token{Payload: []byte(tt.claims), Typ: tt.typ}, policy.Want{Issuer: tt.issuer, Audience: tt.audience}, tt.at)
			if (err == nil) != (tt.want == "") || (err != nil && (!errors.Is(err, signer.ErrInvalid) || !strings.Contains(err.Error(), tt.want))) {
				t.Errorf("Verify() = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	if err := func() error { _, err := rules.Compile(); return err }(); err != nil {
		t.Error(err)
	}
	for i, change := range []func(*policy.JWT){
		func(r *policy.JWT) { r.Issuer = "" },
		func(r *policy.JWT) { r.Audiences = nil },
		func(r *policy.JWT) { r.Audiences = []string{""} },
		func(r *policy.JWT) { r.MaxTTL = 0 },
		func(r *policy.JWT) { r.MaxTTL = 1500 * time.Millisecond },
		func(r *policy.JWT) { r.Typ = "application/jwt" },
	} {
		r := *rules
		change(&r)
		if err := func() error { _, err := r.Compile(); return err }(); !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("change %d: Validate() = %v, want ErrInvalid", i, err)
		}
	}
}

// TestApplyFoldedNames: a relying party that ignores case, as encoding/json does, reads
// the issuer of the rules in every token that was signed.
func TestApplyFoldedNames(t *testing.T) {
	for r := rune(0x80); r < 0x2fff; r++ {
		for _, name := range []string{"i%cs", "%css", "is%c", "a%cd", "e%cp", "%cti", "jt%c"} {
			name = fmt.Sprintf(name, r)
			c, err := compiled.Apply(policy.ClaimsRequest{Claims: fmt.Appendf(nil, `{"aud":"api","iss":"https://id.example",%q:"evil"}`, name)}, now)
			if err != nil {
				continue
			}

			var token struct{ Iss, Jti string }
			if err := json.Unmarshal(c.Payload, &token); err != nil || token.Iss != rules.Issuer || token.Jti != c.JTI {
				t.Errorf("with a member %q a relying party reads %+v, %v", name, token, err)
			}
		}
	}
}
