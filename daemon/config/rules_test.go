package config

import (
	"fmt"
	"strings"
	"testing"
)

// whole is a jwt block with every member.
const whole = `    jwt:
      policy: enforce
      issuer: https://id.example
      issuers: [https://id.example, https://b.example]
      audiences: [api, "https://api.example.com/*"]
      subjects: ["user:*"]
      max_ttl: 15m
      ttl: 5m
      skew: 10s
      typ: at+jwt
      required: [sub]
      forbidden: [act]
      secret: [salary]
      not_secret: [pin]
      values:
        role: {one_of: [reader, 7, true], type: string}
        "https://example.com/level": {min: 1, max: 5}
        scope: {words: [read, write]}
        tenant: {pattern: "acme/*", max_length: 9}
      max_bytes: 1000
      max_depth: 5
`

// TestClaimPolicyRefuses changes one thing in a good claim policy: that of a key, or of a
// grant that narrows it.
func TestClaimPolicyRefuses(t *testing.T) {
	from, to := strings.Index(good, "    jwt:"), strings.Index(good, "    versions:")
	config := good[:from] + whole + good[to:] + "    jwt: {max_ttl: 1m}\n"
	if err := load(config); err != nil {
		t.Fatal(err)
	}
	const grant = "jwt: {max_ttl: 1m}"
	tests := []struct {
		name, old, new string
		at, want       string // what the config has at the place, and what the error says
	}{
		{"mode", "policy: enforce", "policy: advise", "advise", "enforce or dry-run"},
		{"member", "typ: at+jwt", "type: at+jwt", "type", "unknown field"},
		{"issuer", "issuer: https://id.example\n", "issuer: https://c.example\n", "https://c.example", "not among"},
		{"issuers", "https://b.example]", "https://id.example]", "https://id.example]", "twice"},
		{"audience", `"https://api.example.com/*"`, `"https://api.example.com*"`, `"https://api.example.com*"`, "https://api.example.com.evil"},
		{"subject", `["user:*"]`, `["*"]`, `"*"`, "anything"},
		{"ttl", "ttl: 5m", "ttl: 1h", "1h", "from 1s to 15m0s"},
		{"ttl of zero", "ttl: 5m", "ttl: 0s", "0s", "from 1s to"},
		{"skew", "skew: 10s", "skew: much", "much", "whole number of seconds"},
		{"typ", "typ: at+jwt", "typ: application/at+jwt", "application/at+jwt", "without application/"},
		{"required", "required: [sub]", "required: [sub, Act]", "Act", "forbidden as well"},
		{"forbidden", "[act]", "[act, exp]", "exp", "every token"},
		{"not_secret", "[pin]", "[Salary]", "Salary", "a secret as well"},
		{"value", "{words: [read, write]}", "{}", "{}", "no rule"},
		{"value of a type", "type: string}", "type: str}", "str}", "one of"},
		{"value that is a list", "true]", "[true]]", "[true]]", "a string, a whole number"},
		{"value by a URL", "{min: 1, max: 5}", "{min: 6, max: 5}", "6, max", "above max"},
		{"value pattern", `"acme/*"`, `"acme*"`, `"acme*"`, "before the star"},
		{"value of sub", "scope:", "sub:", "{words", "rules of its own"},
		{"number", "max_bytes: 1000", "max_bytes: -1", "-1", "from 2"},
		{"depth", "max_depth: 5", "max_depth: 65", "65", "to 64"},
		{"wider issuer", grant, "jwt: {issuers: [https://b.example, https://c.example]}", "https://c.example", "wider"},
		{"wider audience", grant, `jwt: {audiences: ["https://api.example.com/v1/*", shop]}`, "shop", "wider"},
		{"wider ttl", grant, "jwt: {max_ttl: 16m}", "16m", "wider"},
		{"grant with a ttl that is none", grant, "jwt: {max_ttl: soon}", "soon", "jwt.max_ttl: must be a duration"},
		{"wider skew", grant, "jwt: {skew: 11s}", "11s", "wider"},
		{"wider value", grant, "jwt: {values: {role: {one_of: [reader, 8]}}}", "[reader", "wider"},
		{"wider value by a URL", grant, `jwt: {values: {"https://example.com/level": {max: 6}}}`, "6", "wider"},
		{"wider depth", grant, "jwt: {max_depth: 6}", "6", "wider"},
		{"grant in dry-run", grant, "jwt: {policy: dry-run}", "dry-run", "dry-run"},
		{"grant of another mode", grant, "jwt: {policy: off}", "off", "enforce or dry-run"},
		{"grant of another typ", grant, "jwt: {typ: JWT}", "JWT", "fixed"},
		{"grant without sign-jwt", "ops: [sign-jwt]", "ops: [verify]", "peer:", "sign-jwt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if strings.Count(config, tt.old) < 1 {
				t.Fatalf("%q is not in the good config", tt.old)
			}
			text := strings.Replace(config, tt.old, tt.new, 1)
			err := load(text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is %v, want it to hold %q", err, tt.want)
			}
			var line, column int
			if _, serr := fmt.Sscanf(err.Error(), "test.yaml:%d:%d: ", &line, &column); serr != nil {
				t.Fatalf("error is %v, want it to begin with a place", err)
			}
			if at := strings.Split(text, "\n")[line-1][column-1:]; !strings.HasPrefix(at, tt.at) {
				t.Errorf("error is %v, which is at %q, want %q", err, at, tt.at)
			}
		})
	}
}
