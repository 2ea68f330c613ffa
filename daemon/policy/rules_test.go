package policy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

func number(n int64) *int64 { return &n }

// TestCompileRefuses makes one change in a good policy for each case.
func TestCompileRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(j *policy.JWT)
		path   string
		want   string
	}{
		{"no issuer", func(j *policy.JWT) { j.Issuer = "" }, "issuer", "missing"},
		{"empty issuer in the list", func(j *policy.JWT) { j.Issuers = []string{"https://id.example", ""} }, "issuers.[1]", "empty"},
		{"issuer twice", func(j *policy.JWT) { j.Issuers = []string{"https://id.example", "https://id.example"} }, "issuers.[1]", "twice"},
		{"issuer no UTF-8", func(j *policy.JWT) { j.Issuer = "https://\xff" }, "issuers.[0]", "UTF-8"},
		{"issuer outside the list", func(j *policy.JWT) { j.Issuers = []string{"https://a.example"} }, "issuer", "not among"},
		{"no audiences", func(j *policy.JWT) { j.Audiences = nil }, "audiences", "empty"},
		{"empty audience", func(j *policy.JWT) { j.Audiences = []string{"api", ""} }, "audiences.[1]", "empty"},
		{"any audience", func(j *policy.JWT) { j.Audiences = []string{"*"} }, "audiences.[0]", "anything"},
		{"star in the middle", func(j *policy.JWT) { j.Audiences = []string{"https://*.example.com/x"} }, "audiences.[0]", "at the end"},
		{"two stars", func(j *policy.JWT) { j.Audiences = []string{"urn:**"} }, "audiences.[0]", "at the end"},
		{"star in a host", func(j *policy.JWT) { j.Audiences = []string{"https://api.example.com*"} }, "audiences.[0]", "would match https://api.example.com.evil"},
		{"star behind a dot of a host", func(j *policy.JWT) { j.Audiences = []string{"https://api.example.*"} }, "audiences.[0]", "after the host"},
		{"star for a port", func(j *policy.JWT) { j.Audiences = []string{"https://api.example.com:*"} }, "audiences.[0]", "after the host"},
		{"star for a host", func(j *policy.JWT) { j.Audiences = []string{"https://*"} }, "audiences.[0]", "after the host"},
		{"star for a host with three slashes", func(j *policy.JWT) { j.Audiences = []string{"https:///*"} }, "audiences.[0]", "after the host"},
		{"star in a word", func(j *policy.JWT) { j.Audiences = []string{"api*"} }, "audiences.[0]", "before the star"},
		{"any subject", func(j *policy.JWT) { j.Subjects = []string{"user:*", "*"} }, "subjects.[1]", "anything"},
		{"no max_ttl", func(j *policy.JWT) { j.MaxTTL = 0 }, "max_ttl", "whole number"},
		{"max_ttl with a fraction", func(j *policy.JWT) { j.MaxTTL = 1500 * time.Millisecond }, "max_ttl", "whole number"},
		{"max_ttl for ever", func(j *policy.JWT) { j.MaxTTL = 100 * 366 * 24 * time.Hour }, "max_ttl", "whole number"},
		{"ttl above max_ttl", func(j *policy.JWT) { j.TTL = time.Hour }, "ttl", "to 15m0s"},
		{"ttl below zero", func(j *policy.JWT) { j.TTL = -time.Minute }, "ttl", "whole number"},
		{"skew of a day", func(j *policy.JWT) { j.Skew = 24 * time.Hour }, "skew", "to 1h0m0s"},
		{"skew with a fraction", func(j *policy.JWT) { j.Skew = time.Millisecond }, "skew", "whole number"},
		{"typ with application/", func(j *policy.JWT) { j.Typ = "application/at+jwt" }, "typ", "without application/"},
		{"typ with a blank", func(j *policy.JWT) { j.Typ = "at jwt" }, "typ", "media type"},
		{"required without a name", func(j *policy.JWT) { j.Required = []string{"sub", ""} }, "required.[1]", "empty"},
		{"required and forbidden", func(j *policy.JWT) { j.Required, j.Forbidden = []string{"client_id"}, []string{"clientId"} }, "required.[0]", "forbidden"},
		{"forbidden without a name", func(j *policy.JWT) { j.Forbidden = []string{"_"} }, "forbidden.[0]", "empty"},
		{"forbidden although needed", func(j *policy.JWT) { j.Forbidden = []string{"act", "EXP"} }, "forbidden.[1]", "every token"},
		{"secret and not", func(j *policy.JWT) { j.Secret, j.NotSecret = []string{"p_in"}, []string{"pin"} }, "not_secret.[0]", "a secret as well"},
		{"value without a rule", func(j *policy.JWT) { j.Values = map[string]policy.Value{"x": {}} }, "values.x", "no rule"},
		{"value without a name", func(j *policy.JWT) { j.Values = map[string]policy.Value{"": {MaxLength: 1}} }, "values", "without a name"},
		{"value of a claim with its own rules", func(j *policy.JWT) { j.Values = map[string]policy.Value{"sub": {MaxLength: 9}} }, "values.sub", "rules of its own"},
		{"unknown type", func(j *policy.JWT) { j.Values = map[string]policy.Value{"x": {Type: "text"}} }, "values.x.type", "one of"},
		{"one of none", func(j *policy.JWT) { j.Values = map[string]policy.Value{"x": {OneOf: []any{}}} }, "values.x.one_of", "empty"},
		{"one of a float", func(j *policy.JWT) { j.Values = map[string]policy.Value{"x": {OneOf: []any{1.5}}} }, "values.x.one_of.[0]", "whole number"},
		{"one of too great a number", func(j *policy.JWT) { j.Values = map[string]policy.Value{"x": {OneOf: []any{int64(1 << 53)}}} }, "values.x.one_of.[0]", "2^53-1"},
		{"pattern of a value", func(j *policy.JWT) { j.Values = map[string]policy.Value{"x": {Pattern: "acme*"}} }, "values.x.pattern", "before the star"},
		{"no words", func(j *policy.JWT) { j.Values = map[string]policy.Value{"x": {Words: []string{}}} }, "values.x.words", "empty"},
		{"two words in one", func(j *policy.JWT) { j.Values = map[string]policy.Value{"x": {Words: []string{"a b"}}} }, "values.x.words", "blank"},
		{"length below zero", func(j *policy.JWT) { j.Values = map[string]policy.Value{"x": {MaxLength: -1}} }, "values.x.max_length", "below zero"},
		{"min above max", func(j *policy.JWT) { j.Values = map[string]policy.Value{"x": {Min: number(2), Max: number(1)}} }, "values.x.min", "above max"},
		{"max_bytes of one", func(j *policy.JWT) { j.MaxBytes = 1 }, "max_bytes", "from 2"},
		{"max_depth below zero", func(j *policy.JWT) { j.MaxDepth = -1 }, "max_depth", "from 1"},
		{"max_depth beyond what is read", func(j *policy.JWT) { j.MaxDepth = 65 }, "max_depth", "to 64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := *rules
			tt.change(&j)
			_, err := j.Compile()
			checkRuleError(t, err, tt.path, tt.want)
			if _, err := policy.New([]policy.Key{{Name: "k", Use: signer.UseSig, JWT: &j}}, nil); !errors.Is(err, signer.ErrInvalid) {
				t.Errorf("New() = %v, want ErrInvalid", err)
			}
		})
	}
}

func checkRuleError(t *testing.T, err error, path, want string) {
	t.Helper()
	var rule *policy.RuleError
	if !errors.As(err, &rule) || !errors.Is(err, signer.ErrInvalid) || strings.Join(rule.Path, ".") != path || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want one at %s with %q", err, path, want)
	}
}

// TestNarrowRefuses: a grant cannot allow what the key does not.
func TestNarrowRefuses(t *testing.T) {
	key := &policy.JWT{
		Issuers:   []string{"https://a.example", "https://b.example"},
		Audiences: []string{"https://api.example.com/v1/*", "web"},
		Subjects:  []string{"user:*"},
		MaxTTL:    time.Hour, TTL: 30 * time.Minute, Skew: 10 * time.Second, Typ: "at+jwt",
		Required: []string{"client_id"}, Forbidden: []string{"act"}, NotSecret: []string{"pin"},
		MaxBytes: 1000, MaxDepth: 4,
		Values: map[string]policy.Value{
			"role": {OneOf: []any{"reader", int64(1)}}, "level": {Type: "integer", Min: number(1), Max: number(5)},
			"tenant": {Pattern: "acme/*"}, "scope": {Words: []string{"read", "write"}}, "nick": {MaxLength: 5},
		},
	}

	value := func(claim string, v policy.Value) policy.JWT {
		return policy.JWT{Values: map[string]policy.Value{claim: v}}
	}
	tests := []struct {
		name   string
		narrow policy.JWT
		path   string
		want   string
	}{
		{"issuer", policy.JWT{Issuer: "https://c.example"}, "issuer", "wider"},
		{"issuers", policy.JWT{Issuers: []string{"https://a.example", "https://c.example"}}, "issuers.[1]", "wider"},
		{"no issuers", policy.JWT{Issuers: []string{}}, "issuer", "missing"},
		{"issuer outside its own list", policy.JWT{Issuer: "https://a.example", Issuers: []string{"https://b.example"}}, "issuer", "not among"},
		{"audience", policy.JWT{Audiences: []string{"web", "shop"}}, "audiences.[1]", "wider"},
		{"audience above the prefix", policy.JWT{Audiences: []string{"https://api.example.com/*"}}, "audiences.[0]", "wider"},
		{"audience the prefix itself", policy.JWT{Audiences: []string{"https://api.example.com/v1/"}}, "audiences.[0]", "wider"},
		{"audience out of the prefix", policy.JWT{Audiences: []string{"https://api.example.com/v1/../*"}}, "audiences.[0]", "wider"},
		{"audience of a prefix for an exact one", policy.JWT{Audiences: []string{"web/*"}}, "audiences.[0]", "wider"},
		{"no audiences", policy.JWT{Audiences: []string{}}, "audiences", "empty"},
		{"audience that is no pattern", policy.JWT{Audiences: []string{"web*"}}, "audiences.[0]", "before the star"},
		{"subjects", policy.JWT{Subjects: []string{"svc:*"}}, "subjects.[0]", "wider"},
		{"no subjects, which is any", policy.JWT{Subjects: []string{}}, "subjects", "empty"},
		{"max_ttl", policy.JWT{MaxTTL: 2 * time.Hour}, "max_ttl", "wider"},
		{"max_ttl below zero", policy.JWT{MaxTTL: -1}, "max_ttl", "above zero"},
		{"ttl below zero", policy.JWT{TTL: -1}, "ttl", "whole number"},
		{"ttl above the key's max_ttl", policy.JWT{TTL: 2 * time.Hour}, "ttl", "wider"},
		{"ttl above its own max_ttl", policy.JWT{TTL: 2 * time.Minute, MaxTTL: time.Minute}, "ttl", "whole number"},
		{"skew", policy.JWT{Skew: time.Minute}, "skew", "wider"},
		{"skew below zero", policy.JWT{Skew: -1}, "skew", "above zero"},
		{"typ", policy.JWT{Typ: "JWT"}, "typ", "fixed"},
		{"dry-run", policy.JWT{Mode: policy.DryRun}, "policy", "dry-run"},
		{"required what the key forbids", policy.JWT{Required: []string{"sub", "act"}}, "required.[1]", "forbids"},
		{"forbidden what the key requires", policy.JWT{Forbidden: []string{"x", "clientId"}}, "forbidden.[1]", "requires"},
		{"forbidden what every token has", policy.JWT{Forbidden: []string{"iss"}}, "forbidden.[0]", "every token"},
		{"not_secret", policy.JWT{NotSecret: []string{"password"}}, "not_secret.[0]", "wider"},
		{"max_bytes", policy.JWT{MaxBytes: 1001}, "max_bytes", "wider"},
		{"max_depth", policy.JWT{MaxDepth: 5}, "max_depth", "wider"},
		{"one of", value("role", policy.Value{OneOf: []any{"reader", "owner"}}), "values.role.one_of", "wider"},
		{"one of another type", value("role", policy.Value{OneOf: []any{"1"}}), "values.role.one_of", "wider"},
		{"one of what cannot be", value("role", policy.Value{OneOf: []any{[]any{"reader"}}}), "values.role.one_of.[0]", "whole number"},
		{"type", value("level", policy.Value{Type: "number"}), "values.level.type", "wider"},
		{"min", value("level", policy.Value{Min: number(0)}), "values.level.min", "wider"},
		{"max", value("level", policy.Value{Max: number(6)}), "values.level.max", "wider"},
		{"min above the key's max", value("level", policy.Value{Min: number(6)}), "values.level.min", "above max"},
		{"pattern", value("tenant", policy.Value{Pattern: "acme-eu/*"}), "values.tenant.pattern", "wider"},
		{"words", value("scope", policy.Value{Words: []string{"read", "admin"}}), "values.scope.words", "wider"},
		{"length", value("nick", policy.Value{MaxLength: 6}), "values.nick.max_length", "wider"},
		{"a rule on sub", value("sub", policy.Value{MaxLength: 6}), "values.sub", "rules of its own"},
	}

	me := policy.Match{UID: id(1)}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := policy.Grant{Peer: me, Ops: []api.Op{api.OpSignJWT}, Keys: []string{"k"}, JWT: &tt.narrow}
			_, err := policy.New([]policy.Key{{Name: "k", Use: signer.UseSig, JWT: key}}, []policy.Grant{g})
			var bad *policy.Error
			if !errors.As(err, &bad) || bad.Grant != 0 {
				t.Fatalf("New() = %v, want an *Error of grant 0", err)
			}
			checkRuleError(t, err, tt.path, tt.want)
		})
	}
}

// TestNarrowNeeds: a jwt block in a grant that has nothing to narrow is refused.
func TestNarrowNeeds(t *testing.T) {
	me, narrow := policy.Match{UID: id(1)}, &policy.JWT{MaxTTL: time.Second}
	for name, g := range map[string]policy.Grant{
		"another op":  {Peer: me, Ops: []api.Op{api.OpVerify}, Keys: []string{"oidc"}, JWT: narrow},
		"bypassed":    {Peer: me, Ops: []api.Op{api.OpSignJWT, api.OpSignJWS}, Keys: []string{"oidc"}, JWT: narrow, BypassClaimPolicy: true},
		"no key":      {Peer: me, Ops: []api.Op{api.OpReload}, JWT: narrow},
		"no jwt keys": {Peer: me, Ops: []api.Op{api.OpSignJWS}, Keys: []string{"free"}, JWT: narrow},
	} {
		var bad *policy.Error
		if _, err := policy.New(keys, []policy.Grant{g}); !errors.As(err, &bad) || !errors.Is(err, signer.ErrInvalid) || !strings.Contains(err.Error(), "jwt") {
			t.Errorf("%s: New() = %v, want an *Error about jwt", name, err)
		}
	}
}

// TestGrantsOfOthers: the rules of a grant apply to its own peers and keys only.
func TestGrantsOfOthers(t *testing.T) {
	grants := []policy.Grant{
		{Peer: policy.Match{UID: id(1)}, Ops: []api.Op{api.OpSignJWT}, Keys: []string{"oidc"}, JWT: &policy.JWT{Audiences: []string{"web"}}},
		{Peer: policy.Match{UID: id(2)}, Ops: []api.Op{api.OpSignJWT}, Keys: []string{"oidc"}},
		{Peer: policy.Match{UID: id(3)}, Ops: []api.Op{api.OpVerify}, Keys: []string{"oidc"}},
	}
	p, err := policy.New(keys, grants)
	if err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		uid  uint32
		key  string
		aud  string
		want string
	}{
		{1, "oidc", "web", ""},
		{1, "oidc", "api", "rule audiences"},
		{2, "oidc", "api", ""},
		{3, "oidc", "api", "no grant lets uid 3 sign-jwt"},
		{4, "oidc", "api", "no grant lets uid 4 sign-jwt"},
		{1, "free", "web", "no grant"},
		{1, "none", "web", "no grant"},
	}
	for _, tt := range tests {
		q := policy.ClaimsRequest{Claims: []byte(`{"aud":"` + tt.aud + `"}`)}
		_, err := p.Apply(policy.Peer{UID: tt.uid}, api.OpSignJWT, tt.key, q, now)
		if (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, signer.ErrDenied) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("Apply(uid %d, key %s, aud %s) = %v, want %q", tt.uid, tt.key, tt.aud, err, tt.want)
		}
	}
}

// TestNarrowNeverWidens: for every request of the table, the key allows what its narrowed
// grant allows.
func TestNarrowNeverWidens(t *testing.T) {
	_, cases := readTable(t)
	key := &policy.JWT{
		Issuers: []string{"https://id.example", "https://a.example"}, Issuer: "https://id.example", MaxTTL: time.Hour,
		Audiences: []string{"api", "web", "https://api.example.com/*"}, NotSecret: []string{"pin"},
		Values: map[string]policy.Value{"role": {OneOf: []any{"reader", "writer"}}, "scope": {MaxLength: 10}},
	}
	wide := must(key.Compile())
	key.MaxBytes = 1 << 20 // a payload is longer than the claims of its request
	whole := must(key.Compile())

	signed := 0
	for i, narrow := range []*policy.JWT{
		{}, {Issuer: "https://a.example"}, {Issuers: []string{"https://a.example"}}, {Audiences: []string{"api", "https://api.example.com/v1/*"}},
		{Subjects: []string{"user:*"}}, {MaxTTL: time.Minute}, {TTL: time.Minute}, {Skew: time.Second}, {Required: []string{"sub"}},
		{Forbidden: []string{"nbf", "act"}}, {Secret: []string{"salary"}}, {NotSecret: []string{}}, {MaxBytes: 50}, {MaxDepth: 2},
		{Values: map[string]policy.Value{"role": {Type: "string"}, "scope": {Words: []string{"read"}}, "level": {Min: number(1)}}},
	} {
		rules := must(wide.Narrow(narrow))
		for _, c := range cases {
			got, err := rules.Apply(c.request(), now)
			if err != nil {
				continue
			}
			signed++

			again := c.request()
			again.Claims, again.TTL = got.Payload, 0 // a request for exactly what was signed
			if _, err := whole.Apply(again, now); err != nil {
				t.Errorf("narrowed by %d, signed %.300s, which the key does not: %v", i, got.Payload, err)
			}
		}
	}

	if signed < 500 {
		t.Errorf("%d cases were signed, want more to compare", signed)
	}
}
