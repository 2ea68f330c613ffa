package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"signetd/daemon/api"
	"signetd/daemon/audit"
)

// signJWT asks the key oidc for a token with the given claims.
func (p *process) signJWT(claims string, ttl int64) answer {
	p.t.Helper()
	return p.do(http.MethodPost, api.SignJWT.Path, api.SignJWTRequest{Key: "oidc", Claims: json.RawMessage(claims), TTL: ttl})
}

// wantRule checks that a refusal names its rule in the message, in the member for programs
// and in the audit record.
func (p *process) wantRule(a answer, status int, code, rule string) {
	p.t.Helper()
	message := a.wantError(p.t, status, code)
	var e api.ErrorResponse
	if err := json.Unmarshal(a.body, &e); err != nil || e.Error.Rule != rule || !strings.HasSuffix(message, "(rule "+rule+")") {
		p.t.Errorf("answer %s, want it to name the rule %s", a.body, rule)
	}
	list := p.records(p.t)
	if r := list[len(list)-1]; r.Rule != rule || r.Outcome != code || r.Reason != message || r.Digest != "" || r.WouldDeny != nil {
		p.t.Errorf("record %+v, want outcome %s by rule %s and no token", r, code, rule)
	}
}

// A refusal names the rule that was broken, and the metrics count refusals by rule.
func TestE2ERefusalNamesTheRule(t *testing.T) {
	s := newSettings(t).oneKey()
	s.metrics = `{listen: "$dir/m.sock"}`
	s.keys = strings.Replace(s.keys, "max_ttl: 15m,", `max_ttl: 15m, subjects: ["user:*"], required: [client_id], forbidden: [act], `+
		`values: {"https://example.com/role": {one_of: [reader, 7]}}, max_bytes: 300,`, 1)
	p := start(t, s)
	for rule, claims := range map[string]string{ // #nosec G101 -- made up
		"audiences":     `{"aud":"evil","sub":"user:1","client_id":"c"}`,
		"subjects":      `{"aud":"api","sub":"root","client_id":"c"}`,
		"required":      `{"aud":"api","sub":"user:1"}`,
		"forbidden":     `{"aud":"api","sub":"user:1","client_id":"c","x":[{"ACT":1}]}`,
		"secret":        `{"aud":"api","sub":"user:1","client_id":"c","card_number":"4111 1111 1111 1111"}`,
		"values.one_of": `{"aud":"api","sub":"user:1","client_id":"c","https://example.com/role":"owner"}`,
		"max_bytes":     `{"aud":"api","sub":"user:1","client_id":"` + strings.Repeat("c", 300) + `"}`,
	} {
		p.wantRule(p.signJWT(claims, 0), http.StatusForbidden, "denied", rule)
	}

	p.wantRule(p.signJWT(`{"aud":"api","sub":"user:1","client_id":"c"}`, 901), http.StatusForbidden, "denied", "max_ttl")
	p.wantRule(p.signJWT(`{"aud":"api","x":{"Role":1,"role":2}}`, 0), http.StatusBadRequest, "invalid", "case")
	if a := p.signJWT(`{"aud":"api","sub":"user:1","client_id":"c","https://example.com/role":7}`, 0); a.status != http.StatusOK {
		t.Errorf("claims that keep the policy: %d %s", a.status, a.body)
	}
	text := p.readMetrics(s.path("m.sock"))
	for _, rule := range []string{"audiences", "secret", "values.one_of", "max_ttl", "case"} {
		if got := value(t, text, `signetd_policy_denials_total{key="oidc",mode="enforce",rule="`+rule+`"}`); got != "1" {
			t.Errorf("%s denials by rule %s, want 1", got, rule)
		}
	}
}

// A grant narrows the policy of its key for its peers, and a second grant adds to that.
func TestE2EGrantNarrows(t *testing.T) {
	s := newSettings(t).oneKey()
	s.grants = `
  - {peer: {user: $uid}, ops: [sign-jwt], keys: [oidc], jwt: {audiences: [billing], max_ttl: 1m, required: [sub]}}
  - {peer: {user: $uid}, ops: [verify], keys: [oidc]}`
	p := start(t, s)
	p.wantRule(p.signJWT(`{"aud":"api","sub":"a"}`, 0), http.StatusForbidden, "denied", "audiences")
	p.wantRule(p.signJWT(`{"aud":"billing"}`, 0), http.StatusForbidden, "denied", "required")
	p.wantRule(p.signJWT(`{"aud":"billing","sub":"a"}`, 61), http.StatusForbidden, "denied", "max_ttl")
	if life := p.life(`{"aud":"billing","sub":"a"}`); life != 60 {
		t.Errorf("a token of the narrow grant lives %d s, want 60", life)
	}
	p.stop()

	s.grants += "\n  - {peer: {user: $uid}, ops: [sign-jwt], keys: [oidc], jwt: {audiences: [api]}}"
	p = start(t, s)
	if life := p.life(`{"aud":"api"}`); life != 900 {
		t.Errorf("a token of the second grant lives %d s, want 900", life)
	}
	p.wantRule(p.signJWT(`{"aud":["api","billing"],"sub":"a"}`, 0), http.StatusForbidden, "denied", "audiences")
}

// life signs claims, verifies the token, and returns the time from iat to exp.
func (p *process) life(claims string) int64 {
	p.t.Helper()
	signed := decode[api.SignJWTResponse](p.t, "sign", p.signJWT(claims, 0))
	verified := post[api.VerifyJWTResponse](p, api.VerifyJWT.Path, api.VerifyJWTRequest{Token: signed.Token})
	var times struct{ Iat, Exp int64 }
	if err := json.Unmarshal(verified.Claims, &times); err != nil {
		p.t.Fatal(err)
	}
	return times.Exp - times.Iat
}

// A key in dry-run signs what its policy would deny, and the audit log and the metrics say
// so. Claims that no policy could allow are still refused.
func TestE2EDryRun(t *testing.T) {
	s := newSettings(t).oneKey()
	s.metrics = `{listen: "$dir/m.sock"}`
	s.keys = strings.Replace(s.keys, "jwt: {", "jwt: {policy: dry-run, ", 1)
	p := start(t, s)
	if a := p.signJWT(`{"aud":"evil","password":"x"}`, 3600); a.status != http.StatusOK {
		t.Fatalf("a key in dry-run: %d %s", a.status, a.body)
	}

	list := p.records(t)
	want := []audit.Denial{{Rule: "audiences", Claim: "aud"}, {Rule: "max_ttl"}, {Rule: "secret", Claim: "password"}}
	if r := list[len(list)-1]; r.Outcome != "ok" || r.Rule != "" || !slices.Equal(r.WouldDeny, want) || r.Digest == "" {
		t.Errorf("record %+v, want one of a token, that would be denied by %v", r, want)
	}
	p.wantRule(p.signJWT(`{"aud":"api","x":{"a":1,"A":2}}`, 0), http.StatusBadRequest, "invalid", "case")

	if a := p.signJWT(`{"aud":"api"}`, 0); a.status != http.StatusOK {
		t.Errorf("claims that keep the policy: %d %s", a.status, a.body)
	}
	list = p.records(t)
	if r := list[len(list)-1]; r.WouldDeny != nil {
		t.Errorf("record %+v, want nothing that would be denied", r)
	}

	text := p.readMetrics(s.path("m.sock"))
	for _, rule := range []string{"audiences", "max_ttl", "secret"} {
		if got := value(t, text, `signetd_policy_denials_total{key="oidc",mode="dry-run",rule="`+rule+`"}`); got != "1" {
			t.Errorf("%s would-be denials by rule %s, want 1", got, rule)
		}
	}

	if strings.Contains(readFile(t, s.path("audit.jsonl")), "evil") {
		t.Error("the audit log has a value of the claims")
	}
}

// A grant that would widen the policy of its key is an error of the config, with line and
// column.
func TestE2EWideningIsRefused(t *testing.T) {
	for _, tt := range []struct{ jwt, at string }{
		{`{audiences: [api, evil]}`, "evil"},
		{`{issuer: "https://evil.example"}`, `"https://evil.example"`},
		{`{max_ttl: 16m}`, "16m"},
		{`{typ: JWT}`, "JWT"},
		{`{policy: dry-run}`, "dry-run"},
		{`{values: {"https://example.com/x": {min: 2, max: 1}}}`, "2, max"},
	} {
		s := newSettings(t).oneKey()
		s.grants = "\n  - {peer: {user: $uid}, ops: [sign-jwt], keys: [oidc], jwt: " + tt.jwt + "}"
		text := refused(t, s, "check")
		if at := placeOf(t, s, text); !strings.HasPrefix(at, tt.at) {
			t.Errorf("grant with jwt %s: %s, which is at %q, want %q", tt.jwt, text, at, tt.at)
		}
	}
}
