package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"signetd/signer"
)

var runnable = regexp.MustCompile("(?s)<!-- run: ([a-z]+) -->\n```[a-z]+\n(.*?)```")

// TestREADME runs the README's examples for issuers against `signetd dev`. Each must print
// a token.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}

	socket := startDev(t)
	examples := runnable.FindAllStringSubmatch(string(text), -1)
	if len(examples) != 3 {
		t.Fatalf("%d examples, want one in shell, one in Go and one in Node", len(examples))
	}
	for _, e := range examples {
		language, code := e[1], e[2]
		t.Run(language, func(t *testing.T) {
			out := runExample(t, language, code, socket)
			token := regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`).FindString(out)
			if _, err := signer.ParseSigned(token); err != nil {
				t.Errorf("it printed %q: %v", out, err)
			}
		})
	}
}

// startDev runs `signetd dev` for as long as the test and returns its socket.
func startDev(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "signetd")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	var stderr bytes.Buffer
	cmd := exec.Command(bin, "dev", "--dir", dir)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("signetd dev: %v\n%s", err, stderr.String())
		}
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

// runners has, for each language, the command that runs an example, the program that it
// needs, and the name of the file to put the example in.
var runners = map[string]struct {
	command []string
	needs   string
	file    string
}{
	"sh": {[]string{"sh"}, "curl", "example.sh"},
	"go": {[]string{"go", "run"}, "go", "main.go"},
	"js": {[]string{"node"}, "node", "example.mjs"},
}

func runExample(t *testing.T, language, code, socket string) string {
	t.Helper()
	r, ok := runners[language]
	if !ok {
		t.Fatalf("no way to run %q", language)
	}
	if _, err := exec.LookPath(r.needs); err != nil {
		if os.Getenv("REQUIRE_TOOLS") == "1" {
			t.Fatal(err)
		}
		t.Skipf("%v: set REQUIRE_TOOLS=1 to fail instead", err)
	}

	path := filepath.Join(t.TempDir(), r.file)
	if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(r.command[0], append(r.command[1:], path)...)
	cmd.Env = append(os.Environ(), "SIGNETD_SOCKET="+socket)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", language, err, stderr.String())
	}
	return string(out)
}
