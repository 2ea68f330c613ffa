//go:build cgo

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// A doctor is the program with a token of its own.
type doctor struct {
	bin   string
	token *softhsm.Token
}

// run returns what the program printed and its exit status. The PIN must not be in it.
func (d doctor) run(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, log bytes.Buffer
	cmd := exec.Command(d.bin, append([]string{"doctor"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if strings.Contains(out.String()+log.String(), d.token.PIN()) {
		t.Error("it printed the PIN")
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

func TestDoctor(t *testing.T) {
	d := doctor{filepath.Join(t.TempDir(), "signetd"), softhsm.New(t)}
	if out, err := exec.Command("go", "build", "-o", d.bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	d.token.Generate(t, "oidc", provision.ECP256, signer.UseSig)
	module := d.token.Module()
	token := []string{"--module", module, "--token", d.token.Label()}
	tests := []struct {
		name   string
		args   []string
		status int
		words  string // in what it prints
	}{
		{"healthy", []string{"--config", d.config(t, "ES256")}, 0, "Verdict: healthy"},
		{"an algorithm that the key cannot do", []string{"--config", d.config(t, "RS256")}, 1, "alg"},
		{"one module", []string{"--module", module}, 0, d.token.Label()},
		{"one token", append(token, "--pin-file", d.token.PINFile()), 0, "logged in"},
		{"no PIN", token, 0, "works, with warnings"},
		{"no module", []string{"--module", "/nonexistent.so"}, 1, "does not exist"},
		{"no config", []string{"--config", "/nonexistent.yaml"}, 2, "nonexistent"},
		{"a config without a token", []string{"--config", writeFile(t, "c.yaml", "backends: []\n")}, 2, "nothing to examine"},
		{"an unknown flag", []string{"--frobnicate"}, 2, "frobnicate"},
		{"an argument", []string{"hsm"}, 2, "hsm"},
		{"a config and a module", []string{"--config", "c.yaml", "--module", module}, 2, "not both"},
		{"a PIN for no token", []string{"--module", module, "--pin-file", d.token.PINFile()}, 2, "--token"},
		{"no time", []string{"--module", module, "--timeout", "0s"}, 2, "--timeout"},
		{"a token of no module", []string{"--token", "x"}, 2, "--module"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, status := d.run(t, tt.args...)
			if status != tt.status || !strings.Contains(stdout+stderr, tt.words) {
				t.Errorf("exit status %d, want %d and %q\n%s%s", status, tt.status, tt.words, stdout, stderr)
			}
			if (stdout == "") != (tt.status == 2) {
				t.Errorf("it printed a report: %t\n%s", stdout != "", stdout)
			}
		})
	}
	t.Run("json", func(t *testing.T) { d.checkJSON(t) })
}

// config writes a config with one key.
func (d doctor) config(t *testing.T, alg string) string {
	t.Helper()
	return writeFile(t, "signetd.yaml", fmt.Sprintf(`
backends:
  - name: hsm
    pkcs11: {module: %q, token: %q, pin_file: %q}
keys:
  - name: oidc
    use: sig
    algs: [%s]
    versions: [{backend: hsm, ref: "pkcs11:object=oidc"}]
`, d.token.Module(), d.token.Label(), d.token.PINFile(), alg))
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkJSON reads the JSON as a program would.
func (d doctor) checkJSON(t *testing.T) {
	t.Helper()
	stdout, _, status := d.run(t, "--json", "--config", d.config(t, "ES256"))
	var e examination
	dec := json.NewDecoder(strings.NewReader(stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil || status != 0 {
		t.Fatalf("exit status %d: %v\n%s", status, err, stdout)
	}
	if e.UID != os.Getuid() || e.Verdict != pkcs11.OK || len(e.Backends) != 1 || e.Backends[0].Backend != "hsm" {
		t.Fatalf("%+v", e)
	}

	keys := e.Backends[0].Keys
	if len(keys) != 1 || len(keys[0].Algs) != 1 || keys[0].Algs[0].Alg != signer.ES256 || !keys[0].Algs[0].Proven {
		t.Errorf("keys: %+v", keys)
	}
}
