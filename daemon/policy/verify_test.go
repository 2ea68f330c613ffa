package policy_test

import (
	"errors"
	"testing"
	"time"

	"signetd/daemon/policy"
	"signetd/signer"
)

// TestAccept: the config alone decides which tokens of another party are accepted.
func TestAccept(t *testing.T) {
	accept := policy.Accept{
		Algs: []signer.Alg{signer.ES256, signer.RS256}, Issuers: []string{"https://idp.example"},
		Audiences: []string{"https://api.example.com/*"}, Skew: 5 * time.Second, Required: []string{"client_id"},
	}
	v, err := accept.Compile()
	if err != nil {
		t.Fatal(err)
	}

	const good = `{"iss":"https://idp.example","aud":["x","https://api.example.com/v1"],"exp":1800000010,"client_id":"c"}`
	tests := []struct {
		name   string
		claims string
		alg    signer.Alg
		typ    string
		rule   string // that refuses; empty for none
	}{
		{"no typ", good, signer.ES256, "", ""},
		{"JWT", good, signer.RS256, "jwt", ""},
		{"another typ", good, signer.ES256, "at+jwt", policy.RuleTyp},
		{"another algorithm", good, signer.ES384, "", policy.RuleAlgs},
		{"no algorithm", good, "", "", policy.RuleAlgs},
		{"another issuer", `{"iss":"https://evil.example","aud":"https://api.example.com/v1","exp":1800000010,"client_id":"c"}`, signer.ES256, "", policy.RuleIssuers},
		{"another audience", `{"iss":"https://idp.example","aud":"https://api.example.com.evil/v1","exp":1800000010,"client_id":"c"}`, signer.ES256, "", policy.RuleAudiences},
		{"a claim that is required", `{"iss":"https://idp.example","aud":"https://api.example.com/v1","exp":1800000010}`, signer.ES256, "", policy.RuleRequired},
		{"times with fractions", `{"iss":"https://idp.example","aud":"https://api.example.com/v1","exp":1800000000.5,"iat":1.79e9,"client_id":"c"}`, signer.ES256, "", ""},
		{"expired within the skew", `{"iss":"https://idp.example","aud":"https://api.example.com/v1","exp":1799999996,"client_id":"c"}`, signer.ES256, "", ""},
		{"expired", `{"iss":"https://idp.example","aud":"https://api.example.com/v1","exp":1799999995,"client_id":"c"}`, signer.ES256, "", policy.RuleExp},
		{"from the future", `{"iss":"https://idp.example","aud":"https://api.example.com/v1","exp":1800000010,"nbf":1800000006,"client_id":"c"}`, signer.ES256, "", policy.RuleSkew},
		{"exp below zero", `{"iss":"https://idp.example","aud":"https://api.example.com/v1","exp":-1,"client_id":"c"}`, signer.ES256, "", policy.RuleType},
		{"a member twice", `{"iss":"https://idp.example","iss":"https://idp.example"}`, signer.ES256, "", policy.RuleDuplicate},
		{"case variants at depth", `{"iss":"https://idp.example","x":{"a":1,"A":2}}`, signer.ES256, "", policy.RuleCase},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := v.Verify(policy.Token{Payload: []byte(tt.claims), Alg: tt.alg, Typ: tt.typ}, policy.Want{}, now)
			var d *policy.Denial
			if tt.rule == "" && err != nil || tt.rule != "" && (!errors.As(err, &d) || d.Rule != tt.rule || !errors.Is(err, signer.ErrInvalid)) {
				t.Errorf("Verify() = %v, want it refused by %q", err, tt.rule)
			}
		})
	}

	for path, change := range map[string]func(a *policy.Accept){
		"algs": func(a *policy.Accept) { a.Algs = nil }, "algs.[1]": func(a *policy.Accept) { a.Algs = []signer.Alg{signer.ES256, "none"} },
		"issuers": func(a *policy.Accept) { a.Issuers = nil }, "audiences": func(a *policy.Accept) { a.Audiences = nil },
		"audiences.[0]": func(a *policy.Accept) { a.Audiences = []string{"api*"} }, "typ": func(a *policy.Accept) { a.Typ = "a b" },
		"skew": func(a *policy.Accept) { a.Skew = time.Millisecond },
	} {
		a := accept
		change(&a)
		_, err := a.Compile()
		checkRuleError(t, err, path, "")
	}
}
