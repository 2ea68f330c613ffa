package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be signetd.
func TestMain(m *testing.M) {
	if os.Getenv("SIGNETD_TEST_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// command returns a command that runs signetd with args in dir.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "SIGNETD_TEST_MAIN=1")
	cmd.Dir = dir
	return cmd
}

// A process is a daemon that serves in a process of its own until the test ends.
type process struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	stderr bytes.Buffer // to be read when the process has ended
	client *http.Client
}

// startServe runs "signetd serve" with a config whose socket is DIR/s. DIR stands for a new
// directory. The process must end without an error.
func startServe(t *testing.T, config string) *process {
	t.Helper()
	p := &process{t: t, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(p.dir, "c.yaml"), []byte(strings.ReplaceAll(config, "DIR", p.dir)), 0o600); err != nil {
		t.Fatal(err)
	}

	socket := filepath.Join(p.dir, "s")
	p.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 500, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}

	// Not of exec.CommandContext: the test's context ends before its cleanups run.
	p.cmd = exec.Command(os.Args[0], "serve", "-c", "c.yaml")
	p.cmd.Env, p.cmd.Dir, p.cmd.Stderr = append(os.Environ(), "SIGNETD_TEST_MAIN=1"), p.dir, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)

	for late := time.Now().Add(20 * time.Second); !serves(socket); time.Sleep(20 * time.Millisecond) {
		if exited(p.cmd) || time.Now().After(late) {
			t.Fatal("the daemon does not serve")
		}
	}
	return p
}

func (p *process) stop() {
	p.client.CloseIdleConnections()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // the process may have ended
	if err := p.cmd.Wait(); err != nil || p.t.Failed() {
		p.t.Errorf("the daemon ended with %v:\n%s", err, p.stderr.String())
	}
}

// do sends a request and returns the status, the Retry-After header and the body.
func (p *process) do(method, path, body string) (status int, retry string, answer []byte, err error) {
	r, err := http.NewRequest(method, "http://signetd"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After"), answer, err
}

// serves reports whether a daemon accepts connections on the socket.
func serves(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// exited reports whether the process has ended, without waiting for it.
func exited(cmd *exec.Cmd) bool {
	var info syscall.WaitStatus
	pid, err := syscall.Wait4(cmd.Process.Pid, &info, syscall.WNOHANG, nil)
	return err != nil || pid != 0
}
