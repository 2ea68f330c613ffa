package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHangupAtOddTimes: SIGHUP ends neither a daemon that is starting nor one that is
// answering its last requests.
func TestHangupAtOddTimes(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	config := fmt.Sprintf(`
socket: {path: %s}
audit: {path: %s}
insecure_software_keys: true
backends: [{name: m, software: {}}]
keys:
  - {name: a, use: sig, algs: [RS256], versions: [{backend: m, ref: "generate:rsa-4096"}]}
`, socket, filepath.Join(dir, "audit"))
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := command(t, dir, "serve", "-c", "c.yaml")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for !serves(socket) {
		time.Sleep(500 * time.Millisecond) // for the runtime to reach main
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil || exited(cmd) {
			t.Fatal("SIGHUP ended the daemon while it started")
		}
	}

	c := beginRequest(t, socket)
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}

	if _, err := io.WriteString(c, "{}"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 403") {
		t.Errorf("the request in flight got %q, %v", answer, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the daemon ended with %v", err)
	}
}

// TestDevEndsWithTerminal: dev has no config file that SIGHUP could make it read again,
// and it ends when its terminal does.
func TestDevEndsWithTerminal(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "signetd.sock")
	cmd := command(t, dir, "dev", "--dir", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for !serves(socket) {
		time.Sleep(20 * time.Millisecond)
	}

	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it still runs")
		_ = cmd.Process.Kill()
	}
}

// beginRequest sends a request without its body.
func beginRequest(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, "POST /v1/jws/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	return c
}
