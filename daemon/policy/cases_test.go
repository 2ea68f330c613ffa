package policy_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// A table is the content of testdata/claims.yaml.
type table struct {
	Policies map[string]struct {
		Key    block
		Grants []block
	}
	Cases map[string][]claimsCase
}

// A block is a jwt block of a config.
type block struct {
	Policy                                            string
	Issuer                                            string
	Issuers, Audiences, Subjects, Required, Forbidden []string
	Secret                                            []string
	NotSecret                                         []string `yaml:"not_secret"`
	TTL, Skew, Typ                                    string
	MaxTTL                                            string `yaml:"max_ttl"`
	MaxBytes                                          int    `yaml:"max_bytes"`
	MaxDepth                                          int    `yaml:"max_depth"`
	Values                                            map[string]struct {
		Type, Pattern string
		OneOf         []any `yaml:"one_of"`
		Words         []string
		MaxLength     int `yaml:"max_length"`
		Min, Max      *int64
	}
}

func (b *block) jwt(t testing.TB) *policy.JWT {
	t.Helper()
	j := &policy.JWT{
		Issuer: b.Issuer, Issuers: b.Issuers, Audiences: b.Audiences, Subjects: b.Subjects, Typ: b.Typ,
		Required: b.Required, Forbidden: b.Forbidden, Secret: b.Secret, NotSecret: b.NotSecret,
		MaxBytes: b.MaxBytes, MaxDepth: b.MaxDepth, Mode: policy.Mode(b.Policy),
	}

	for text, d := range map[*string]*time.Duration{&b.TTL: &j.TTL, &b.Skew: &j.Skew, &b.MaxTTL: &j.MaxTTL} {
		if *text == "" {
			continue
		}
		var err error
		if *d, err = time.ParseDuration(*text); err != nil {
			t.Fatal(err)
		}
	}

	for claim, v := range b.Values {
		if j.Values == nil {
			j.Values = map[string]policy.Value{}
		}
		one := v.OneOf
		for i := range one {
			if n, ok := one[i].(uint64); ok {
				one[i] = int64(n)
			}
		}
		j.Values[claim] = policy.Value{Type: v.Type, OneOf: one, Pattern: v.Pattern, Words: v.Words, MaxLength: v.MaxLength, Min: v.Min, Max: v.Max}
	}
	return j
}

// A claimsCase is one line of the table.
type claimsCase struct {
	Policy string `yaml:"-"`
	Name   string
	Claims string
	TTL    int64
	Typ    string
	Cty    string
	Sealed bool
	Allow  string
	Deny   string
	Refuse string
	Would  []string
}

func (c *claimsCase) request() policy.ClaimsRequest {
	return policy.ClaimsRequest{Claims: expand(c.Claims), TTL: time.Duration(c.TTL) * time.Second, Typ: c.Typ, Cty: c.Cty, Sealed: c.Sealed}
}

var repeated = regexp.MustCompile(`<<(?:0x([0-9a-f]{2})|(.+?)\*(\d+))>>`)

// expand replaces the abbreviations of a case: <<0xff>> is a byte, and <<ab*3>> is ababab.
func expand(text string) []byte {
	return repeated.ReplaceAllFunc([]byte(text), func(short []byte) []byte {
		m := repeated.FindSubmatch(short)
		if m[1] != nil {
			b, _ := strconv.ParseUint(string(m[1]), 16, 8) // the pattern allows two hex digits only
			return []byte{byte(b)}
		}
		n, _ := strconv.Atoi(string(m[3]))
		return bytes.Repeat(m[2], n)
	})
}

var casePeer = policy.Peer{UID: 1}

// readTable reads the policies, compiled, and the cases.
func readTable(t testing.TB) (map[string]*policy.Policy, []claimsCase) {
	t.Helper()
	data, err := os.ReadFile("testdata/claims.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file table
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&file); err != nil {
		t.Fatal(err)
	}

	policies := map[string]*policy.Policy{}
	for name, p := range file.Policies {
		if len(p.Grants) == 0 {
			p.Grants = []block{{}}
		}
		var grants []policy.Grant
		for _, g := range p.Grants {
			grant := policy.Grant{Peer: policy.Match{UID: &casePeer.UID}, Ops: []api.Op{api.OpSignJWT}, Keys: []string{"k"}}
			if fmt.Sprint(g) != fmt.Sprint(block{}) {
				grant.JWT = g.jwt(t)
			}
			grants = append(grants, grant)
		}

		key := policy.Key{Name: "k", Use: signer.UseSig, JWT: p.Key.jwt(t)}
		if policies[name], err = policy.New([]policy.Key{key}, grants); err != nil {
			t.Fatalf("policy %s: %v", name, err)
		}
	}

	var cases []claimsCase
	for _, name := range slices.Sorted(maps.Keys(file.Cases)) {
		for _, c := range file.Cases[name] {
			c.Policy = name
			cases = append(cases, c)
		}
	}
	return policies, cases
}

// TestClaims runs testdata/claims.yaml.
func TestClaims(t *testing.T) {
	policies, cases := readTable(t)
	requests, names := map[string]string{}, map[string]bool{}
	rules := map[string]bool{}

	for _, c := range cases {
		t.Run(c.Policy+"/"+c.Name, func(t *testing.T) {
			p, ok := policies[c.Policy]
			if !ok {
				t.Fatal("no such policy")
			}
			request := fmt.Sprintf("%q %q %d %q %q %t", c.Policy, c.Claims, c.TTL, c.Typ, c.Cty, c.Sealed)
			if other, ok := requests[request]; ok || names[c.Policy+c.Name] {
				t.Errorf("the same request as %q, or the same name", other)
			}
			requests[request], names[c.Policy+c.Name] = c.Name, true

			got, err := p.Apply(casePeer, api.OpSignJWT, "k", c.request(), now)
			if c.Allow == "" {
				rules[checkDenial(t, &c, err)] = true
				return
			}
			if err != nil {
				t.Fatalf("Apply() = %v, want %s", err, c.Allow)
			}
			checkSigned(t, &c, got)
		})
	}

	t.Logf("%d cases, of which %d rules refuse", len(cases), len(rules))
	if len(cases) < 200 {
		t.Errorf("%d cases, want 200 or more", len(cases))
	}
}

// checkDenial compares an error with the one that a case expects, and returns its rule.
func checkDenial(t *testing.T, c *claimsCase, err error) string {
	t.Helper()
	want, sentinel := c.Deny, signer.ErrDenied
	if c.Refuse != "" {
		want, sentinel = c.Refuse, signer.ErrInvalid
	}

	var d *policy.Denial
	if !errors.As(err, &d) || d.Rule+"/"+d.Claim != want || !errors.Is(err, sentinel) {
		t.Fatalf("Apply() = %v, want a %v by %q", err, sentinel, want)
	}
	if !strings.Contains(err.Error(), "rule "+d.Rule) || !strings.Contains(err.Error(), d.Claim) {
		t.Errorf("Apply() = %v, want it to say rule and claim", err)
	}
	if strings.Contains(err.Error(), "evil") || strings.Contains(err.Error(), "admin") && d.Rule != policy.RuleForbidden {
		t.Errorf("Apply() = %v, which contains a value of the claims", err)
	}
	return d.Rule
}

var randomID = regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`)

func checkSigned(t *testing.T, c *claimsCase, got *policy.Claims) {
	t.Helper()
	var would []string
	for _, d := range got.Would {
		would = append(would, d.Rule+"/"+d.Claim)
	}
	if !slices.Equal(would, c.Would) {
		t.Errorf("would have been denied by %q, want %q", would, c.Would)
	}

	if c.Allow == "signed" {
		return
	}

	want := c.Allow
	if strings.Contains(want, `"JTI"`) {
		if !randomID.MatchString(got.JTI) {
			t.Errorf("jti %q, want 128 random bits in base64url", got.JTI)
		}
		want = strings.Replace(want, "JTI", got.JTI, 1)
	}
	if string(got.Payload) != want {
		t.Errorf("Apply() = %s\nwant      %s", got.Payload, want)
	}
}

// TestNoValueInDenials: no error contains text that the peer wrote.
func TestNoValueInDenials(t *testing.T) {
	const mark = "hunter2"
	policies, _ := readTable(t)
	for _, claims := range []string{
		`{"iss":"hunter2","aud":"api"}`, `{"aud":"hunter2"}`, `{"aud":"api","sub":"hunter2"}`, `{"aud":"api","hunter2_password":1}`,
		`{"aud":"api","password":"hunter2"}`, `{"aud":"api","hunter2":1,"Hunter2":2}`, `{"aud":"api","hunter2":1,"hunter2":2}`,
		`{"aud":"api","exp":"hunter2"}`, `{"aud":"api","hunter2":`, `{"aud":"api","hunter2":"\u0000"}`, `{"aud":"api","role":"hunter2"}`,
		`{"aud":"api","https://hunter2/ssn":"hunter2"}`, `{"aud":"api","hunter2/act":1,"act":1}`, `hunter2`,
	} {
		denied := 0
		for name, p := range policies {
			_, err := p.Apply(casePeer, api.OpSignJWT, "k", policy.ClaimsRequest{Claims: []byte(claims)}, now)
			if err == nil {
				continue
			}
			denied++
			if strings.Contains(err.Error(), mark) {
				t.Errorf("policy %s on %s: %v", name, claims, err)
			}
		}
		if denied == 0 {
			t.Errorf("no policy denies %s", claims)
		}
	}
}
