package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signetd/signer"
	"signetd/softhsm"
)

// languages are the examples for issuers. Each is run against `signetd dev`, prints tokens,
// which are verified, and ends with the text in says.
var languages = []struct {
	folder  string
	command []string
	needs   []string // programs
	tokens  int
	says    string
}{
	{"go", []string{"go", "run", "."}, nil, 2, "opened: a sealed letter"},
	{"node", []string{"node", "issuer.mjs"}, []string{"node"}, 1, "opened: a sealed letter"},
	{"shell", []string{"sh", "issuer.sh"}, []string{"curl", "jq"}, 1, "opened: a sealed letter"},
	{"python", []string{"python3", "issuer.py"}, []string{"python3"}, 1, "signed for: alice"},
	{"java", []string{"java", "Issuer.java"}, []string{"java"}, 1, "verifies: true"},
}

func TestLanguages(t *testing.T) {
	socket := startDev(t)
	for _, l := range languages {
		t.Run(l.folder, func(t *testing.T) {
			dir, command := prepare(t, l.folder, l.command, l.needs)
			var stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
			cmd.Dir, cmd.Stderr = dir, &stderr
			cmd.Env = append(os.Environ(), "SIGNETD_SOCKET="+socket)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %v\n%s", command, err, stderr.String())
			}

			tokens := regexp.MustCompile(`(?m)^eyJ[\w-]+\.[\w-]+\.[\w-]+$`).FindAllString(string(out), -1)
			if len(tokens) != l.tokens || !strings.HasSuffix(strings.TrimSpace(string(out)), l.says) {
				t.Fatalf("it printed %q, want %d tokens and %q", out, l.tokens, l.says)
			}
			for _, token := range tokens {
				verify(t, socket, token)
			}
		})
	}
}

// TestLanguagesAreExplained holds that each example has a short page that says how to run
// it.
func TestLanguagesAreExplained(t *testing.T) {
	for _, l := range languages {
		text := read(t, filepath.Join(l.folder, "README.md"))
		if n := strings.Count(text, "\n"); n > 14 || !strings.Contains(text, l.command[len(l.command)-1]) || !strings.Contains(text, "SIGNETD_SOCKET=") {
			t.Errorf("%s/README.md has %d lines, or does not say how to run it", l.folder, n)
		}
	}
}

// prepare returns the folder in which to run a command, and the command. A program that is
// needed and missing skips the test, or fails it if REQUIRE_TOOLS is 1. For Python and Java
// a missing runtime or package always skips.
func prepare(t *testing.T, folder string, command, needs []string) (string, []string) {
	t.Helper()
	for _, name := range needs {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("REQUIRE_TOOLS") == "1" && folder != "python" && folder != "java" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}

	switch folder {
	case "node": // the packages are in a cache in the user's home
		dir := t.TempDir()
		if err := os.Symlink(softhsm.NodeModules(t), filepath.Join(dir, "node_modules")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "issuer.mjs"), []byte(read(t, "node/issuer.mjs")), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir, command
	case "python": // the python3 of the system may have packages that the first on the PATH lacks
		for _, python := range []string{"python3", "/usr/bin/python3"} {
			if exec.CommandContext(t.Context(), python, "-c", "import jwt, cryptography").Run() == nil {
				return folder, append([]string{python}, command[1:]...)
			}
		}
		t.Skip("no python3 has PyJWT and cryptography")
	}
	return folder, command
}

// startDev runs `signetd dev` for as long as the test and returns its socket.
func startDev(t *testing.T) string {
	t.Helper()
	bin, err := softhsm.Signetd()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "dev")
	if err != nil {
		t.Fatal(err)
	}

	var stderr bytes.Buffer
	cmd := exec.Command(bin, "dev", "--dir", dir)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("signetd dev: %v\n%s", err, stderr.String())
		}
		_ = os.RemoveAll(dir)
	})

	socket := filepath.Join(dir, "signetd.sock")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatalf("signetd dev does not answer\n%s", stderr.String())
		}
	}
}

// verify verifies a token with the key that it names in the JWKS of the daemon.
func verify(t *testing.T, socket, token string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	resp, err := c.Get("http://signetd/v1/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}

	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.PS256})
	if err != nil {
		t.Fatal(err)
	}
	keys := set.Key(jws.Signatures[0].Header.KeyID)
	if len(keys) == 0 { // go-jose adds a kid only if asked to
		keys = slices.DeleteFunc(set.Keys, func(k jose.JSONWebKey) bool { return k.Use != string(signer.UseSig) })
	}
	for _, k := range keys {
		if _, err := jws.Verify(k.Key); err == nil {
			return
		}
	}
	t.Errorf("none of %[2]d keys verifies %[1]s", token, len(keys))
}
