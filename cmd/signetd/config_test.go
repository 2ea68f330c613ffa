package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
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

func load(text string) error {
	d, err := parseConfig("test.yaml", []byte(text))
	if err != nil {
		return err
	}
	if _, err := d.Settings(); err != nil {
		return err
	}
	setup, err := d.openAll(context.Background())
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

// TestBackendsRefused changes one thing in the backends of a good config, or in the keys
// that they hold.
func TestBackendsRefused(t *testing.T) {
	tests := []struct {
		name, old, new string
		line, column   int
		want           string
	}{
		{"software keys not allowed", "insecure_software_keys: true\n", "", 6, 15, "insecure_software_keys"},
		{"backend without a kind", "    software: {}\n", "", 6, 5, "exactly one"},
		{"backend of two kinds", "software: {}", "software: {}\n    pkcs11: {module: /x}", 6, 5, "exactly one"},
		{"backend twice", "keys:\n", "  - {name: memory, software: {}}\nkeys:\n", 8, 12, "appears twice: lines"},
		{"unknown backend", "backend: memory", "backend: hsm", 17, 19, "no backend"},
		{"algorithm of another key", "algs: [ES256]", "algs: [RS256]", 17, 9, "RS256 needs an RSA key"},
		{"no versions", `      - {backend: memory, ref: "generate:ec-p256"}`, "      []", 9, 3, "no versions"},
		{"missing key", "generate:ec-p256", "/nonexistent/key.pem", 17, 32, "no such file"},
		{"kid twice", "    versions:\n", "    versions:\n      - {backend: memory, ref: \"generate:ec-p256\"}\n", 9, 3, "the same kid"},
		{"refs beside a ref", `ref: "generate:ec-p256"`, `refs: [{backend: memory, ref: "generate:ec-p256"}]`, 17, 33, "either refs, or backend and ref"},
		{"unknown backend in refs", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: hsm, ref: x}]`, 17, 27, "no backend"},
		{"unknown member in refs", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: memory, uri: x}]`, 17, 35, "unknown field"},
		{"missing key in refs", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: memory, ref: /nonexistent/key.pem}]`, 17, 40, "no such file"},
		{"the same place twice", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: memory, ref: x}, {backend: memory, ref: x}]`, 17, 44, "appears twice in line 17"},
		{"two keys in refs", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: memory, ref: "generate:ec-p256:a"}, {backend: memory, ref: "generate:ec-p256:b"}]`, 17, 63, "not the same key"},
		{"algorithm of another key in refs", `backend: memory, ref: "generate:ec-p256"`, `refs: [{backend: memory, ref: "generate:rsa-2048"}]`, 17, 17, "ES256 needs a key on P-256"},
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

// TestConfigKeepsSecrets: no error quotes a PIN that is written in the wrong place.
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

func TestDevConfig(t *testing.T) {
	var text strings.Builder
	if err := render(&text, devConfig, map[string]any{"UID": os.Getuid(), "Socket": "/x/s", "Audit": "/x/a"}); err != nil {
		t.Fatal(err)
	}
	if err := load(text.String()); err != nil {
		t.Error(err)
	}
}
