package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"signetd/daemon"
	"signetd/signer"
)

// good is a config that works anywhere, with a mark where tests change it.
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

func load(text string) error {
	d, err := parseConfig("test.yaml", []byte(text))
	if err != nil {
		return err
	}
	if _, err := d.Settings(); err != nil {
		return err
	}
	setup, err := d.build(context.Background(), daemon.NewMetrics("test"))
	if err != nil {
		return err
	}
	return setup.Close()
}

func TestConfig(t *testing.T) {
	if err := load(good); err != nil {
		t.Fatal(err)
	}
}

// TestConfigRefuses changes one thing each in a config that is good.
func TestConfigRefuses(t *testing.T) {
	tests := []struct {
		name, old, new string
		line, column   int
		want           string
	}{
		{"unknown member", "limits: {", "limits: {burst: 5, ", 2, 10, `unknown field "burst"`},
		{"unknown section", "limits:", "limit:", 2, 1, `unknown field "limit"`},
		{"member twice", "    use: sig\n", "    use: sig\n    use: sig\n", 11, 5, "already defined"},
		{"wrong type", "connections: 10", "connections: [10]", 2, 23, "cannot unmarshal"},
		{"not a number", "connections: 10", "connections: many", 2, 23, "cannot unmarshal"},
		{"number below zero", "connections: 10", "connections: -1", 2, 23, "limits.connections"},
		{"no duration", "timeout: 2s", "timeout: 2 fortnights", 2, 36, "limits.timeout"},
		{"duration too long", "timeout: 2s", "timeout: 20m", 2, 36, "limits.timeout"},
		{"relative socket", "path: /run/signetd/signetd.sock", "path: signetd.sock", 1, 16, "socket.path"},
		{"no socket", "{path: /run/signetd/signetd.sock, mode", "{mode", 1, 9, "socket.path"},
		{"socket mode", `"0660"`, `"rw"`, 1, 49, "socket.mode"},
		{"no audit", "audit: {path: /var/log/signetd/audit.jsonl}\n", "", 0, 0, "audit.path"},
		{"audit sync", "audit.jsonl}", "audit.jsonl, sync: sometimes}", 3, 51, "audit.sync"},
		{"log level", "limits:", "log: {level: loud}\nlimits:", 2, 14, "log.level"},
		{"log format", "limits:", "log: {format: xml}\nlimits:", 2, 15, "log.format"},
		{"metrics for the world", "limits:", "metrics: {listen: \"0.0.0.0:9464\"}\nlimits:", 2, 19, "loopback"},
		{"software keys unsaid", "insecure_software_keys: true\n", "", 6, 15, "insecure_software_keys"},
		{"backend of no kind", "    software: {}\n", "", 6, 5, "exactly one"},
		{"backend of two kinds", "software: {}", "software: {}\n    pkcs11: {module: /x}", 6, 5, "exactly one"},
		{"backend twice", "keys:\n", "  - {name: memory, software: {}}\nkeys:\n", 8, 12, "appears twice: lines"},
		{"unknown backend", "backend: memory", "backend: hsm", 17, 19, "no backend"},
		{"key name", "name: oidc", "name: Oidc Key", 9, 11, "begin with a letter"},
		{"key use", "use: sig", "use: sign", 10, 10, "sig or enc"},
		{"no algorithms", "algs: [ES256]", "algs: []", 11, 11, "is empty"},
		{"algorithm none", "algs: [ES256]", "algs: [none]", 11, 12, "not an algorithm"},
		{"algorithm of the other use", "algs: [ES256]", "algs: [RSA-OAEP]", 11, 12, "not an algorithm"},
		{"algorithm twice", "algs: [ES256]", "algs: [ES256, ES256]", 11, 19, "appears twice: lines"},
		{"algorithm of another key", "algs: [ES256]", "algs: [RS256]", 17, 9, "RS256 needs an RSA key"},
		{"ttl", "max_ttl: 15m", "max_ttl: soon", 15, 16, "a duration"},
		{"ttl of zero", "max_ttl: 15m", "max_ttl: 0s", 15, 16, "jwt.max_ttl"},
		{"no issuer", "      issuer: https://id.example\n", "", 13, 7, "issuer"},
		{"no audiences", "audiences: [api]", "audiences: []", 14, 18, "jwt.audiences"},
		{"no versions", `      - {backend: memory, ref: "generate:ec-p256"}`, "      []", 9, 3, "no versions"},
		{"key that is not there", "generate:ec-p256", "/nonexistent/key.pem", 17, 32, "no such file"},
		{"time", `ref: "generate:ec-p256"`, `ref: "generate:ec-p256", not_before: tomorrow`, 17, 64, "2026-11-01T00:00:00Z"},
		{"kid twice", "    versions:\n", "    versions:\n      - {backend: memory, ref: \"generate:ec-p256\"}\n", 9, 3, "the same kid"},
		{"refs beside a ref", `ref: "generate:ec-p256"`, `refs: [{backend: memory, ref: "generate:ec-p256"}]`, 17, 33, "either refs, or backend and ref"},
		{"unknown backend in refs", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: hsm, ref: x}]`, 17, 27, "no backend"},
		{"unknown member in refs", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: memory, uri: x}]`, 17, 35, "unknown field"},
		{"key that is not there in refs", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: memory, ref: /nonexistent/key.pem}]`, 17, 40, "no such file"},
		{"the same place twice", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: memory, ref: x}, {backend: memory, ref: x}]`, 17, 44, "appears twice: lines"},
		{"two keys in refs", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: memory, ref: "generate:ec-p256:a"}, {backend: memory, ref: "generate:ec-p256:b"}]`, 17, 63, "not the same key"},
		{"algorithm of another key in refs", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: memory, ref: "generate:rsa-2048"}]`, 17, 17, "ES256 needs a key on P-256"},
		{"no peer", "user: 4711", "", 19, 11, "exactly one of user and group"},
		{"two peers", "user: 4711", "user: 4711, group: 4711", 19, 11, "exactly one of user and group"},
		{"unknown user", "user: 4711", "user: no-such-user-here", 19, 18, "does not know"},
		{"user of no kind", "user: 4711", "user: [4711]", 19, 18, "a name or an id"},
		{"user below zero", "user: 4711", "user: -1", 19, 18, "a name or an id"},
		{"user too big", "user: 4711", "user: 4294967296", 19, 18, "a name or an id"},
		{"unknown op", "ops: [sign-jwt]", "ops: [sign]", 19, 5, "unknown operation"},
		{"unknown key in a grant", "keys: [oidc]", "keys: [odic]", 19, 5, `"odic"`},
		{"free payload past the rules", "ops: [sign-jwt]", "ops: [sign-jws]", 19, 5, "bypass_claim_policy"},
		{"anchor", "algs: [ES256]", "algs: &a [ES256]", 11, 11, "anchors"},
		{"tag", "algs: [ES256]", "algs: !!seq [ES256]", 11, 11, "tags"},
		{"no YAML", "algs: [ES256]", "algs: [ES256", 0, 0, "test.yaml:"},
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

// TestConfigKeepsSecrets: a PIN that stands where it should not is in no error.
func TestConfigKeepsSecrets(t *testing.T) {
	const pin = "hunter2-4711-hunter2"
	for name, text := range map[string]string{
		"a member":           strings.Replace(good, "software: {}", "pkcs11: {module: /m, token: t, pin: "+pin+"}", 1),
		"a member, two line": strings.Replace(good, "    software: {}\n", "    pkcs11:\n      pin: "+pin+"\n      module: [1]\n", 1),
		"the ref":            strings.Replace(good, "generate:ec-p256", "pkcs11:object=x?pin-value="+pin, 1),
		"a bare word":        strings.Replace(good, "connections: 10", "connections: "+pin, 1),
		"bad syntax":         strings.Replace(good, "software: {}", "pkcs11: {pin: "+pin, 1),
	} {
		if err := load(text); err == nil || strings.Contains(err.Error(), pin) {
			t.Errorf("%s: error is %v, want one without the PIN", name, err)
		}
	}
}

func TestReadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signetd.yaml")
	if _, err := readConfig(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("readConfig(missing) = %v", err)
	}
	if err := os.WriteFile(path, []byte("\n# nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("readConfig(empty) = %v, want an error with its path", err)
	}
	if err := os.WriteFile(path, make([]byte, 4<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(path); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("readConfig(huge) = %v, want an error", err)
	}
}

func TestUnchanged(t *testing.T) {
	running, err := parseConfig("test.yaml", []byte(good))
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
		d, err := parseConfig("test.yaml", []byte(strings.Replace(good, old, new, 1)))
		if err != nil {
			t.Fatal(err)
		}
		err = d.NeedsRestart(running.File)
		if (err == nil) != (want == "") || (err != nil && (!strings.Contains(err.Error(), want) || !errors.Is(err, signer.ErrInvalid))) {
			t.Errorf("change %q: NeedsRestart() = %v, want %q", change, err, want)
		}
	}
}

func TestDevConfig(t *testing.T) {
	var text strings.Builder
	if err := render(&text, devConfig, map[string]any{"UID": os.Getuid(), "Socket": "/x/s", "Audit": "/x/a"}); err != nil {
		t.Fatal(err)
	}
	if err := load(text.String()); err != nil {
		t.Error(err)
	}
}

// FuzzConfig: any text is a config or an error that begins with the file's name,
// and a config that is read twice is the same.
func FuzzConfig(f *testing.F) {
	f.Add(good)
	f.Add("a: &x [1]\nb: *x\n")
	f.Add("socket: {path: /s}\n---\nsocket: {}\n")
	f.Add("keys:\n  - {name: k, versions: [{ref: \"pkcs11:object=x?pin-value=1234\"}]}\n")
	place := regexp.MustCompile(`^test\.yaml:`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseConfig("test.yaml", []byte(text))
		if err == nil {
			_, err = d.Settings()
		}
		if err == nil {
			_, err = d.Setup()
		}
		if err != nil && !place.MatchString(err.Error()) {
			t.Fatalf("an error without a place: %v", err)
		}
	})
}
