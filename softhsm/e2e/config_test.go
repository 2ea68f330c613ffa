package e2e

import (
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"signetd/daemon/api"
)

var place = regexp.MustCompile(`^signetd: .*/signetd\.yaml:(\d+):(\d+): `)

// placeOf returns the text of the config that begins at the line and column in an error.
func placeOf(t *testing.T, s *settings, text string) string {
	t.Helper()
	m := place.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("the error names no file, line and column: %s", text)
	}
	line, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}

	column, err := strconv.Atoi(m[2])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(s.yaml(), "\n")
	if line < 1 || line > len(lines) || column < 1 || column > len(lines[line-1])+1 {
		t.Fatalf("the config has no %d:%d: %s", line, column, text)
	}
	return lines[line-1][column-1:]
}

// The error about a wrong config names the line and column, says what is wrong, and
// repeats no value, since a value may be a secret.
func TestE2EConfigRefused(t *testing.T) {
	const secret = "9f3-secret-71c" // #nosec G101 -- made up
	replace := func(section *string, old, text string) {
		if !strings.Contains(*section, old) {
			t.Fatalf("%q is not in %q", old, *section)
		}
		*section = strings.Replace(*section, old, text, 1)
	}

	tests := []struct {
		name   string
		change func(*settings)
		at     string // the text at the line and column of the error
		words  string // a part of the error
	}{
		{"an unknown field", func(s *settings) { replace(&s.keys, "use: sig", "use: sig\n    colour: red") }, "colour", "unknown field"},
		{"an unknown field at the top", func(s *settings) { s.grants += "\ngrnats: []" }, "grnats", "unknown field"},
		{"an unknown field of a backend", func(s *settings) { replace(&s.backends, "sessions: 4", "session: 4") }, "session", "unknown field"},
		{"a field twice", func(s *settings) { replace(&s.keys, "use: sig", "use: sig\n    use: enc") }, "use: enc", "already defined"},
		{"an anchor", func(s *settings) { replace(&s.keys, "use: sig", "use: &u sig") }, "&u", "anchors"},
		{"an alias", func(s *settings) { replace(&s.keys, "use: sig", "use: &u sig"); replace(&s.grants, "[oidc]", "*u") }, "&u", "anchors"},
		{"a merge key", func(s *settings) { replace(&s.keys, "use: sig", "use: sig\n    <<: {use: enc}") }, "<<", "merge"},
		{"a tag", func(s *settings) { replace(&s.keys, "use: sig", "use: !!str sig") }, "!!str", "tags"},
		{"a duration that is none", func(s *settings) { s.limits = `{timeout: 5 parsecs}` }, "5 parsecs", "duration"},
		{"a duration that is too long", func(s *settings) { s.limits = `{timeout: 24h}` }, "24h", "10ms to 10m"},
		{"a lifetime that is none", func(s *settings) { replace(&s.keys, "15m", "quarter") }, "quarter", "duration"},
		{"a lifetime of nothing", func(s *settings) { replace(&s.keys, "15m", "0s") }, "0s", "max_ttl"},
		{"a limit below zero", func(s *settings) { s.limits = `{in_flight: -1}` }, "-1", "limits.in_flight"},
		{"an alg of another use", func(s *settings) { replace(&s.keys, "[ES256]", "[RSA-OAEP]") }, "RSA-OAEP", "use sig"},
		{"an alg that does not exist", func(s *settings) { replace(&s.keys, "[ES256]", "[none]") }, "none", "\"none\" is not an algorithm"},
		{"an alg twice", func(s *settings) { replace(&s.keys, "[ES256]", "[ES256, ES256]") }, "ES256]", "twice"},
		{"an alg that does not fit the key", func(s *settings) { replace(&s.keys, "[ES256]", "[RS256]") }, "{backend", "unsupported"},
		{"no alg", func(s *settings) { replace(&s.keys, "[ES256]", "[]") }, "[]", "algs: is empty"},
		{"a use of nobody", func(s *settings) { replace(&s.keys, "use: sig", "use: both") }, "both", "sig or enc"},
		{"no issuer", func(s *settings) { replace(&s.keys, `issuer: "https://id.example.com", `, "") }, "{audiences", "issuer"},
		{"no audience", func(s *settings) { replace(&s.keys, `[api, billing]`, "[]") }, "[]", "audiences"},
		{"a PIN in a ref", func(s *settings) { replace(&s.keys, `$oidc"`, `$oidc?pin-value=`+secret+`"`) }, `"pkcs11:`, "pin_file"},
		{"a PIN in a ref, not quite", func(s *settings) { replace(&s.keys, `$oidc"`, `$oidc;pin-value=`+secret+`"`) }, `"pkcs11:`, "pin_file"},
		{"a PIN in the backend", func(s *settings) { replace(&s.backends, "sessions: 4", "pin: "+secret) }, "pin", "unknown field"},
		{"a PIN in the backend that is digits", func(s *settings) { replace(&s.backends, "sessions: 4", "pin: 1234") }, "pin", "unknown field"},
		{"a PIN where a number should be", func(s *settings) { replace(&s.backends, "sessions: 4", "sessions: "+secret) }, secret, "must be a whole number"},
		{"a ref without a key", func(s *settings) { replace(&s.keys, `"$oidc"`, `"pkcs11:type=private"`) }, `"pkcs11:`, "object or id"},
		{"a ref that is no URI", func(s *settings) { replace(&s.keys, `"$oidc"`, `"oidc"`) }, `"oidc"`, "not pkcs11"},
		{"a backend that is not there", func(s *settings) { replace(&s.keys, "backend: hsm", "backend: hms") }, "hms", "no backend"},
		{"a backend twice", func(s *settings) { s.backends += s.backends }, "hsm", "twice"},
		{"a backend that is nothing", func(s *settings) { s.backends = "\n  - {name: hsm}" }, "{name", "exactly one"},
		{"software keys that nobody asked for", func(s *settings) { s.backends += "\n  - {name: soft, software: {}}" }, "{}", "insecure_software_keys"},
		{"a key twice", func(s *settings) { s.keys += s.keys }, "", "keys[1].name: appears twice"},
		{"a key without a version", func(s *settings) { replace(&s.keys, `{backend: hsm, ref: "$oidc"}`, "") }, "", "version"},
		{"a name with a space", func(s *settings) { replace(&s.keys, "name: oidc", "name: o idc") }, "o idc", "must be 1 to 64 of a-z"},
		{"a grant on an unknown key", func(s *settings) { replace(&s.grants, "[oidc]", "[oicd]") }, "{peer", `"oicd"`},
		{"a grant of an unknown op", func(s *settings) { replace(&s.grants, "sign-jwt", "sing-jwt") }, "{peer", `"sing-jwt"`},
		{"a grant for an unknown user", func(s *settings) { replace(&s.grants, "$uid", "nobody-has-this-name") }, "nobody-has", "does not know"},
		{"a grant for an unknown group", func(s *settings) { replace(&s.grants, "user: $uid", "group: nobody-has-this-name") }, "nobody-has", "does not know"},
		{"a grant for a user and a group", func(s *settings) { replace(&s.grants, "user: $uid", "user: $uid, group: 0") }, "{user", "exactly one"},
		{"a grant for nobody", func(s *settings) { replace(&s.grants, "user: $uid", "") }, "{}", "exactly one"},
		{"a grant for a uid below zero", func(s *settings) { replace(&s.grants, "$uid", "-1") }, "-1", "id"},
		{"a grant for a uid above 32 bits", func(s *settings) { replace(&s.grants, "$uid", "4294967296") }, "4294967296", "id"},
		{"a grant for every uid, as minus one in 32 bits", func(s *settings) { replace(&s.grants, "$uid", "4294967295") }, "4294967295", "id"},
		{"a grant without ops", func(s *settings) { replace(&s.grants, "[sign-jwt, verify]", "[]") }, "{peer", "ops: missing"},
		{"a grant without keys", func(s *settings) { replace(&s.grants, "[oidc]", "[]") }, "{peer", "keys: missing"},
		{"a free payload under a claim policy", func(s *settings) { replace(&s.grants, "[sign-jwt, verify]", "[sign-jws]") }, "{peer", "bypass_claim_policy"},
		{"a digest under a claim policy", func(s *settings) { replace(&s.grants, "[sign-jwt, verify]", "[sign-digest]") }, "{peer", "bypass_claim_policy"},
		{"a socket that is not absolute", func(s *settings) { s.socket = "{path: s.sock}" }, "s.sock", "absolute"},
		{"no socket", func(s *settings) { s.socket = "" }, "", "socket.path"},
		{"a mode that is not octal", func(s *settings) { s.socket = `{path: "$dir/s.sock", mode: "0888"}` }, `"0888"`, "octal"},
		{"a mode in decimal", func(s *settings) { s.socket = `{path: "$dir/s.sock", mode: "0o660"}` }, `"0o660"`, "octal"},
		{"a mode in octal without quotes", func(s *settings) { s.socket = `{path: "$dir/s.sock", mode: 0660}` }, "0660", "quotes"},
		{"a token that looks like octal", func(s *settings) { replace(&s.backends, `"$token"`, "0042") }, "0042", "quotes"},
		{"a token that looks like a float", func(s *settings) { replace(&s.backends, `"$token"`, "1.50") }, "1.50", "quotes"},
		{"a token that looks hexadecimal", func(s *settings) { replace(&s.backends, `"$token"`, "0x2a") }, "0x2a", "quotes"},
		{"a limit that is a fraction", func(s *settings) { s.limits = `{in_flight: 1.5}` }, "1.5", "quotes"},
		{"a socket whose path is too long", func(s *settings) { s.socket = `{path: "$dir/` + strings.Repeat("s", 100) + `"}` }, `"/`, "longer than"},
		{"metrics whose path is too long", func(s *settings) { s.metrics = `{listen: "$dir/` + strings.Repeat("s", 100) + `"}` }, `"/`, "longer than"},
		{"no audit log", func(s *settings) { s.audit = "" }, "", "audit.path"},
		{"an audit log synced now and then", func(s *settings) { s.audit = `{path: "$dir/audit.jsonl", sync: sometimes}` }, "sometimes", "always or never"},
		{"metrics for everybody", func(s *settings) { s.metrics = `{listen: "0.0.0.0:9464"}` }, `"0.0.0.0:9464"`, "loopback"},
		{"metrics on a name", func(s *settings) { s.metrics = `{listen: "localhost:9464"}` }, `"localhost`, "loopback"},
		{"a log level of nobody", func(s *settings) { s.log = `{level: loud}` }, "loud", "debug"},
		{"a list where a mapping should be", func(s *settings) { s.limits = "[" + secret + "]" }, "[", ""},
		{"a string where a list should be", func(s *settings) { replace(&s.keys, "[ES256]", secret) }, secret, ""},
		{"a tab", func(s *settings) { replace(&s.keys, "    use: sig", "\tuse: sig # "+secret) }, "", ""},
		{"a quote that does not end", func(s *settings) { s.log = `{level: "` + secret + `}` }, "", ""},
		{"two documents", func(s *settings) { s.grants += "\n---\nkeys: []" }, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t).oneKey()
			tt.change(s)
			text := refused(t, s, "check")
			if tt.at != "" {
				if got := placeOf(t, s, text); !strings.HasPrefix(got, tt.at) {
					t.Errorf("the place named begins %.40q, want %q: %s", got, tt.at, text)
				}
			}
			if !strings.Contains(text, tt.words) || !strings.Contains(text, "signetd.yaml") {
				t.Errorf("the error does not name the file, or %q: %s", tt.words, text)
			}
			if own := strings.ReplaceAll(text, s.dir, ""); strings.Contains(own, secret) || strings.Contains(own, "1234") {
				t.Errorf("the error echoes the config: %s", text)
			}
		})
	}
}

// serve refuses what check refuses, with the same error, and leaves no file behind.
func TestE2EServeRefusesWhatCheckRefuses(t *testing.T) {
	s := newSettings(t).oneKey()
	s.keys = strings.Replace(s.keys, "use: sig", "use: sig\n    pin: 1234", 1)
	check, serve := refused(t, s, "check"), refused(t, s, "serve")
	if check != serve || strings.Contains(check, "1234") {
		t.Errorf("check: %sserve: %s", check, serve)
	}
	for _, name := range []string{"s.sock", "audit.jsonl"} {
		if _, err := os.Lstat(s.path(name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}

func TestE2ECheck(t *testing.T) {
	s := newSettings(t)
	out, err := signetd(s, "check", "--config", s.write(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keyTypes {
		if !regexp.MustCompile(`(?m)^key ` + k.label + `: kid \S{43} in hsm: .*: ok$`).Match(out) {
			t.Errorf("check does not name key %s:\n%s", k.label, out)
		}
	}

	for _, name := range []string{"s.sock", "audit.jsonl"} {
		if _, err := os.Lstat(s.path(name)); err == nil {
			t.Errorf("check made %s", name)
		}
	}
	for name, args := range map[string][]string{
		"a file that is not there": {"check", "--config", s.path("nowhere.yaml")}, "a directory": {"check", "--config", s.dir},
		"an argument": {"check", "x"}, "a flag of nobody": {"serve", "--pin=1234"}, "a command of nobody": {"sevre"},
	} {
		cmd := signetd(s, args...)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 1 || strings.Contains(string(out), "1234") {
			t.Errorf("%s: exit code %d: %s", name, cmd.ProcessState.ExitCode(), out)
		}
	}
}

// A key with a jwt block signs only claims, unless a grant has bypass_claim_policy.
func TestE2EBypassClaimPolicy(t *testing.T) {
	s := newSettings(t)
	digest := api.SignDigestRequest{Key: "oidc", Alg: "ES256", Digest: make([]byte, 32)}
	payload := api.SignJWSRequest{Key: "oidc", Payload: []byte(`{"iss":"anybody"}`)}
	p := start(t, s)
	p.do(http.MethodPost, api.SignDigest.Path, digest).wantError(t, http.StatusForbidden, "denied")
	p.do(http.MethodPost, api.SignJWS.Path, payload).wantError(t, http.StatusForbidden, "denied")
	for name, q := range map[string]api.SignDigestRequest{
		"a short digest": {Key: "notes", Alg: "ES256", Digest: make([]byte, 31)}, "a long digest": {Key: "notes", Alg: "ES256", Digest: make([]byte, 64)},
		"no digest": {Key: "notes", Alg: "ES256"}, "no alg": {Key: "notes", Digest: make([]byte, 32)},
	} {
		if msg := p.do(http.MethodPost, api.SignDigest.Path, q).wantError(t, http.StatusBadRequest, "invalid"); msg == "" {
			t.Error(name)
		}
	}
	p.stop()

	s.grants += "\n  - {peer: {user: $uid}, ops: [sign-jws, sign-digest], keys: [oidc], bypass_claim_policy: true}"
	p = start(t, s)
	if got := post[api.SignDigestResponse](p, api.SignDigest.Path, digest); len(got.Signature) != 64 {
		t.Errorf("a signature of %d bytes", len(got.Signature))
	}
	jws := post[api.SignJWSResponse](p, api.SignJWS.Path, payload)
	opensslVerify(t, p.jwk(jws.KID), "ES256", jws.JWS)
	for _, op := range []string{"sign-digest", "sign-jws"} {
		ok := 0
		for _, r := range p.records(t) {
			if r.Op == op && r.Key == "oidc" && r.Outcome == "ok" && r.Digest != "" {
				ok++
			}
		}
		if ok != 1 {
			t.Errorf("%d records of %s with key oidc, want 1", ok, op)
		}
	}
}
