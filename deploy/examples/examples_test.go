package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"signetd/backends"
	"signetd/backends/pkcs11/provision"
	"signetd/daemon/config"
	"signetd/daemon/policy"
	"signetd/signer"
	"signetd/softhsm"
)

const example = "signetd.yaml"

// keys are the keys that an operator would make for the labels in the example.
var keys = []struct {
	name, label string
	typ         provision.KeyType
	use         signer.Use
}{
	{"oidc", "oidc-2026-11", provision.ECP256, signer.UseSig},
	{"oidc", "oidc-2027-02", provision.ECP256, signer.UseSig},
	{"oidc-rsa", "oidc-rsa-2026-11", provision.RSA2048, signer.UseSig},
	{"inbox", "inbox-2026-11", provision.RSA2048, signer.UseEnc},
}

// TestExampleChecks holds that an operator who has a token with these keys has to change
// paths and accounts, and nothing else, for a config that works.
func TestExampleChecks(t *testing.T) {
	token := exampleToken(t)
	for _, k := range keys {
		token.Generate(t, k.label, k.typ, k.use)
	}
	dir := t.TempDir()
	jwks := filepath.Join(dir, "partner-idp.jwks")
	if err := os.WriteFile(jwks, []byte(partnerJWKS), 0o600); err != nil {
		t.Fatal(err)
	}

	uid, gid := strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid())
	out := checkAdapted(t, dir, read(t, example), []replacement{
		{"/usr/lib/softhsm/libsofthsm2.so", token.Module()},
		{"/run/credentials/signetd.service/pin", token.PINFile()},
		{"/run/signetd/signetd.sock", filepath.Join(dir, "signetd.sock")},
		{"/var/log/signetd/audit.jsonl", filepath.Join(dir, "audit.jsonl")},
		{"/run/signetd-metrics/metrics.sock", filepath.Join(dir, "metrics.sock")},
		{"/etc/signetd/partner-idp.jwks", jwks},
		{"group: signet #", `group: "` + gid + `" #`},
		{"{user: issuer}", "{user: " + uid + "}"},
		{"{group: mailroom}", "{group: " + gid + "}"},
		{"{user: 33}", "{user: " + uid + "}"},
		{"{group: signet-admin}", "{group: " + gid + "}"},
	})

	lines := strings.Split(strings.TrimSpace(out), "\n")
	if others := 3; len(lines) != len(keys)+others+1 { // two issuers and a recipient
		t.Fatalf("signetd check printed %d lines, want one for each of %d versions, three for issuers and recipients and one for the file:\n%s", len(lines), len(keys), out)
	}
	for i, k := range keys {
		want := regexp.MustCompile(`^key ` + k.name + `: kid \S{43} in hsm: \[.+\]: ok$`)
		if !want.MatchString(lines[i]) {
			t.Errorf("line %d of signetd check is %q, want %s", i+1, lines[i], want)
		}
	}
}

// partnerJWKS holds the key of RFC 7517 appendix A.1.
const partnerJWKS = `{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}]}`

// TestExampleStopsAtTheMachine holds that all that is wrong with the unchanged example is
// what this machine lacks: accounts, files or the token.
func TestExampleStopsAtTheMachine(t *testing.T) {
	out, err := check(t, example)
	if err == nil {
		return // this machine has all that the example names
	}
	want := regexp.MustCompile(`^signetd: signetd\.yaml:\d+:\d+: (socket\.group|issuers\[0\]\.jwks_file|grants\[\d\]\.peer\.(user|group): .*this host does not know|backends\[0\]: backend "hsm")`)
	if !want.MatchString(out) {
		t.Errorf("signetd check printed %q, want an error about an account or the token", out)
	}
}

// membersOf returns the names of the members that a part of the config has, at any depth.
func membersOf(typ reflect.Type) (members []string) {
	kind := typ.Kind()
	if kind == reflect.Pointer || kind == reflect.Slice || kind == reflect.Map {
		return membersOf(typ.Elem())
	}
	if kind != reflect.Struct {
		return nil
	}

	for i := range typ.NumField() {
		name, options, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
		if name == "-" || (name == "" && options != "inline") {
			continue
		}
		if name != "" {
			members = append(members, name)
		}
		members = append(members, membersOf(typ.Field(i).Type)...)
	}
	return members
}

// TestEveryMemberIsExplained holds that each member of the config is in an example and in
// the operator's manual. A backend may bring both in its own folder.
func TestEveryMemberIsExplained(t *testing.T) {
	text := read(t, example) + read(t, awsExample) + read(t, gcpExample) + readAll(t, "../../backends/*/example.yaml")
	manual := read(t, "../../docs/operations.md") + readAll(t, "../../backends/*/README.md")
	members := slices.Concat(membersOf(reflect.TypeFor[config.Config]()), membersOf(reflect.TypeFor[backends.Config]()))
	if len(members) < 30 {
		t.Fatalf("found %d members of the config, want all", len(members))
	}
	for _, m := range members {
		if !regexp.MustCompile(`(?m)\x60` + m + `(:.*)?\x60|^### ` + m + `$`).MatchString(manual) {
			t.Errorf("operations.md does not explain the member %q", m)
		}
		if m == "software" { // for laptops: the examples only mention it
			continue
		}
		if !regexp.MustCompile(`(?m)(^\s*(- )?|\{|, )` + regexp.QuoteMeta(m) + `:`).MatchString(text) {
			t.Errorf("the example does not have the member %q", m)
		}
	}
}

// TestClaimsKeepTheRules holds that the keys of the example sign claims.json, as the README
// has an issuer do.
func TestClaimsKeepTheRules(t *testing.T) {
	var config struct {
		Keys []struct {
			Name string
			JWT  *struct {
				Issuer    string
				Audiences []string
				MaxTTL    string `yaml:"max_ttl"`
				Typ       string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, example)), &config); err != nil {
		t.Fatal(err)
	}

	signed := 0
	for _, k := range config.Keys {
		if k.JWT == nil {
			continue
		}
		ttl, err := time.ParseDuration(k.JWT.MaxTTL)
		if err != nil {
			t.Fatal(err)
		}
		rules, err := (&policy.JWT{Issuer: k.JWT.Issuer, Audiences: k.JWT.Audiences, MaxTTL: ttl, Typ: k.JWT.Typ}).Compile()
		if err != nil {
			t.Fatal(err)
		}

		now := time.Now()
		claims, err := rules.Apply(policy.ClaimsRequest{Claims: []byte(read(t, "claims.json"))}, now)
		if err != nil {
			t.Errorf("key %s: Apply(claims.json) = %v, want claims to sign", k.Name, err)
			continue
		}
		if _, err := rules.Verifier().Verify(policy.Token{Payload: claims.Payload, Typ: rules.Typ()}, policy.Want{}, now); err != nil {
			t.Errorf("key %s: Verify(%s) = %v, want nil", k.Name, claims.Payload, err)
		}
		signed++
	}
	if signed != 2 {
		t.Errorf("%d keys of the example sign claims.json, want oidc and oidc-rsa", signed)
	}
}

// exampleToken makes a token with the label that the example names.
func exampleToken(t *testing.T) *softhsm.Token {
	t.Helper()
	if _, err := softhsm.Module(); err != nil {
		if os.Getenv("REQUIRE_SOFTHSM") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}

	label := regexp.MustCompile(`(?m)^ +token: (\S+)`).FindStringSubmatch(read(t, example))
	if label == nil {
		t.Fatal("the example names no token")
	}
	t.Setenv("SOFTHSM2_CONF", os.Getenv("SOFTHSM2_CONF")) // so that the cleanup undoes Create's
	token, err := softhsm.Create(t.TempDir(), label[1])
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A replacement is something that an operator changes in an example.
type replacement struct{ old, new string }

// checkAdapted writes the text of an example to a file in dir, with the replacements, and
// returns what `signetd check` prints.
func checkAdapted(t *testing.T, dir, text string, replacements []replacement) string {
	t.Helper()
	for _, r := range replacements {
		if !strings.Contains(text, r.old) {
			t.Fatalf("the example lacks %q", r.old)
		}
		text = strings.ReplaceAll(text, r.old, r.new)
	}

	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := check(t, config)
	if err != nil {
		t.Fatalf("signetd check: %v\n%s\n%s", err, out, text)
	}
	return out
}

// check runs `signetd check` on a config file.
func check(t *testing.T, config string) (string, error) {
	t.Helper()
	bin, err := softhsm.Signetd()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), bin, "check", "--config", config).CombinedOutput()
	return string(out), err
}

// readAll returns all files that match a pattern, one after the other.
func readAll(t *testing.T, pattern string) (text string) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text += read(t, name)
	}
	return text
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
