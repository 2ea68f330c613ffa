package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"signetd/signer"
)

// good is a config that is right on any machine. Tests change one thing in it.
const good = `socket: {path: /run/signetd/signetd.sock, mode: "0660"}
limits: {connections: 10, timeout: 2s}
audit: {path: /var/log/signetd/audit.jsonl}
insecure_software_keys: true
backends:
  - name: memory
    software: {}
keys:
  - name: oidc
    use: sig
    algs: [ES256]
    jwt:
      issuer: https://id.example
      audiences: [api]
      max_ttl: 15m
    versions:
      - {backend: memory, ref: "generate:ec-p256"}
grants:
  - peer: {user: 4711}
    ops: [sign-jwt]
    keys: [oidc]
`

// A backend is the config of a backend in these tests.
type backend struct {
	Name     string    `yaml:"name"`
	Software *struct{} `yaml:"software"`
}

func parse(name, text string) (*File, error) {
	f, _, err := Parse[backend](name, []byte(text))
	return f, err
}

// load reads a config and checks everything that needs no backend.
func load(text string) error {
	f, err := parse("test.yaml", text)
	if err != nil {
		return err
	}
	if _, err := f.Settings(); err != nil {
		return err
	}
	_, err = f.Setup()
	return err
}

func TestConfig(t *testing.T) {
	if err := load(good); err != nil {
		t.Fatal(err)
	}
}

// TestConfigRefuses changes one thing in a config that is good.
func TestConfigRefuses(t *testing.T) {
	tests := []struct {
		name, old, new string
		line, column   int
		want           string
	}{
		{"unknown member", "limits: {", "limits: {burst: 5, ", 2, 10, `unknown field "burst"`},
		{"unknown section", "limits:", "limit:", 2, 1, `unknown field "limit"`},
		{"member twice", "    use: sig\n", "    use: sig\n    use: sig\n", 11, 5, "already defined"},
		{"wrong type", "connections: 10", "connections: [10]", 2, 23, "must be a whole number"},
		{"not a number", "connections: 10", "connections: many", 2, 23, "must be a whole number"},
		{"text where a list belongs", "algs: [ES256]", "algs: ES256", 11, 11, "sequence"},
		{"list where a text belongs", "use: sig", "use: [sig]", 10, 10, "must be a text"},
		{"list where a section belongs", "limits: {connections: 10, timeout: 2s}", "limits: [10]", 2, 9, "mapping"},
		{"number below zero", "connections: 10", "connections: -1", 2, 23, "limits.connections"},
		{"not a duration", "timeout: 2s", "timeout: 2 fortnights", 2, 36, "limits.timeout"},
		{"duration too long", "timeout: 2s", "timeout: 20m", 2, 36, "limits.timeout"},
		{"relative socket", "path: /run/signetd/signetd.sock", "path: signetd.sock", 1, 16, "socket.path"},
		{"no socket", "{path: /run/signetd/signetd.sock, mode", "{mode", 1, 9, "socket.path"},
		{"socket mode", `"0660"`, `"rw"`, 1, 49, "socket.mode"},
		{"no audit", "audit: {path: /var/log/signetd/audit.jsonl}\n", "", 0, 0, "audit.path"},
		{"audit sync", "audit.jsonl}", "audit.jsonl, sync: sometimes}", 3, 51, "audit.sync"},
		{"log level", "limits:", "log: {level: loud}\nlimits:", 2, 14, "log.level"},
		{"log format", "limits:", "log: {format: xml}\nlimits:", 2, 15, "log.format"},
		{"metrics for other hosts", "limits:", "metrics: {listen: \"0.0.0.0:9464\"}\nlimits:", 2, 19, "loopback"},
		{"key name", "name: oidc", "name: Oidc Key", 9, 11, "begin with a letter"},
		{"key name twice", "keys:\n", "keys:\n  - {name: oidc, use: enc, algs: [RSA-OAEP]}\n", 10, 11, "appears twice: lines 9 and 10"},
		{"key use", "use: sig", "use: sign", 10, 10, "sig or enc"},
		{"no algorithms", "algs: [ES256]", "algs: []", 11, 11, "is empty"},
		{"algorithm none", "algs: [ES256]", "algs: [none]", 11, 12, "not an algorithm"},
		{"algorithm of the other use", "algs: [ES256]", "algs: [RSA-OAEP]", 11, 12, "not an algorithm"},
		{"algorithm twice", "algs: [ES256]", "algs: [ES256, ES256]", 11, 19, "appears twice in line 11"},
		{"ttl", "max_ttl: 15m", "max_ttl: soon", 15, 16, "a duration"},
		{"ttl of zero", "max_ttl: 15m", "max_ttl: 0s", 15, 16, "jwt.max_ttl"},
		{"no issuer", "      issuer: https://id.example\n", "", 13, 7, "issuer"},
		{"no audiences", "audiences: [api]", "audiences: []", 14, 18, "jwt.audiences"},
		{"time", `ref: "generate:ec-p256"`, `ref: "generate:ec-p256", not_before: tomorrow`, 17, 64, "2026-11-01T00:00:00Z"},
		{"no peer", "user: 4711", "", 19, 11, "exactly one of user and group"},
		{"two peers", "user: 4711", "user: 4711, group: 4711", 19, 11, "exactly one of user and group"},
		{"unknown user", "user: 4711", "user: no-such-user-here", 19, 18, "does not know"},
		{"user that is a list", "user: 4711", "user: [4711]", 19, 18, "a name or an id"},
		{"user below zero", "user: 4711", "user: -1", 19, 18, "a name or an id"},
		{"user too big", "user: 4711", "user: 4294967296", 19, 18, "a name or an id"},
		{"unknown op", "ops: [sign-jwt]", "ops: [sign]", 19, 5, "unknown operation"},
		{"unknown key in a grant", "keys: [oidc]", "keys: [odic]", 19, 5, `"odic"`},
		{"free payload under claim rules", "ops: [sign-jwt]", "ops: [sign-jws]", 19, 5, "bypass_claim_policy"},
		{"anchor", "algs: [ES256]", "algs: &a [ES256]", 11, 11, "anchors"},
		{"tag", "algs: [ES256]", "algs: !!seq [ES256]", 11, 11, "tags"},
		{"not YAML", "algs: [ES256]", "algs: [ES256", 0, 0, "test.yaml:"},
		{"two documents", "grants:\n", "---\ngrants:\n", 0, 0, "documents"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("%q is not in the good config", tt.old)
			}
			err := load(strings.Replace(good, tt.old, tt.new, 1))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is %v, want it to hold %q", err, tt.want)
			}
			if place := fmt.Sprintf("test.yaml:%d:%d: ", tt.line, tt.column); tt.line > 0 && !strings.HasPrefix(err.Error(), place) {
				t.Errorf("error is %v, want it at %s", err, place)
			}
		})
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signetd.yaml")
	if _, _, err := Read[backend](path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Read(missing) = %v", err)
	}

	if err := os.WriteFile(path, []byte("\n# nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read[backend](path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Read(empty) = %v, want an error with its path", err)
	}

	if err := os.WriteFile(path, make([]byte, maxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read[backend](path); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("Read(huge) = %v, want an error", err)
	}
}

func TestNeedsRestart(t *testing.T) {
	running, err := parse("test.yaml", good)
	if err != nil {
		t.Fatal(err)
	}

	for change, want := range map[string]string{
		"keys: [oidc]>keys: [oidc, oidc]":            "",
		"timeout: 2s>timeout: 3s":                    "limits",
		"signetd.sock>other.sock":                    "socket",
		"audit.jsonl>other.jsonl":                    "audit",
		"limits:>log: {level: debug}\nlimits:":       "log",
		"limits:>metrics: {listen: /run/m}\nlimits:": "metrics",
	} {
		old, new, _ := strings.Cut(change, ">")
		f, err := parse("test.yaml", strings.Replace(good, old, new, 1))
		if err != nil {
			t.Fatal(err)
		}
		err = f.NeedsRestart(running)
		if (err == nil) != (want == "") || (err != nil && (!strings.Contains(err.Error(), want) || !errors.Is(err, signer.ErrInvalid))) {
			t.Errorf("change %q: NeedsRestart() = %v, want %q", change, err, want)
		}
	}
}

// FuzzConfig: any text is a config, or an error that begins with the file's name.
func FuzzConfig(f *testing.F) {
	f.Add(good)
	f.Add("a: &x [1]\nb: *x\n")
	f.Add("socket: {path: /s}\n---\nsocket: {}\n")
	f.Add("keys:\n  - {name: k, versions: [{ref: \"pkcs11:object=x?pin-value=1234\"}]}\n")
	place := regexp.MustCompile(`^test\.yaml:`)
	f.Fuzz(func(t *testing.T, text string) {
		f, err := parse("test.yaml", text)

		if err == nil {
			_, err = f.Settings()
		}
		if err == nil {
			_, err = f.Setup()
		}

		if err != nil && !place.MatchString(err.Error()) {
			t.Fatalf("an error without a place: %v", err)
		}
	})
}
