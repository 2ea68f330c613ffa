package e2e

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"signetd/daemon/api"
)

// handOver starts signetd with a socket that the test holds. Like systemd it passes the
// socket as descriptor 3 and sets LISTEN_PID (sd_listen_fds(3)).
func handOver(t *testing.T, s *settings, l *net.UnixListener) *process {
	t.Helper()
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	p := prepare(t, s)
	p.cmd.Args = append([]string{"sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"`, shared.binary}, p.cmd.Args[1:]...)
	p.cmd.Path = "/bin/sh"
	p.cmd.ExtraFiles = []*os.File{file}
	p.held = true
	p.launch()
	p.awaitReady(1)
	return p
}

// While systemd holds the socket, a restart loses no request, not even on new connections:
// these wait in the listen backlog.
func TestE2ERestartUnderLoad(t *testing.T) {
	s := newSettings(t).oneKey()
	s.limits = `{connections: 256, per_peer: 64}`
	s.log = `{level: info}`
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path("s.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	p := handOver(t, s, l)
	clients := s.loop(16)
	for range 3 {
		clients.await(t, 100)
		began := time.Now()
		p.stop()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the stop took %v", took)
		}
		p = handOver(t, s, l)
	}

	clients.await(t, 100)
	close(clients.quit)
	clients.end(t, s)
	p.stop()
}

func TestE2ESocketActivation(t *testing.T) {
	tool, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		if os.Getenv("REQUIRE_SYSTEMD") != "" {
			t.Fatal("systemd-socket-activate is missing: install the package systemd")
		}
		t.Skip("systemd-socket-activate is not installed; .ci/run requires it")
	}

	s := newSettings(t).oneKey()
	s.socket = `{path: "$dir/never.sock"}`
	p := prepare(t, s)
	args := []string{tool, "--listen=" + p.sock()}
	for _, env := range p.cmd.Env {
		args = append(args, "--setenv="+env)
	}

	p.cmd.Args = append(append(args, shared.binary), p.cmd.Args[1:]...)
	p.cmd.Path = tool
	p.held = true
	p.launch()
	for late := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(p.sock()); err == nil {
			break
		} else if time.Now().After(late) {
			t.Fatalf("no socket: %v\n%s", err, p.stderr.tail())
		}
	}

	if got := p.sign("oidc", ""); got.Token == "" { // the first connection starts the daemon
		t.Error("no token")
	}
	if _, err := os.Lstat(s.path("never.sock")); err == nil {
		t.Error("the configured socket was made, although one was handed over")
	}

	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Lstat(p.sock()); err != nil {
		t.Errorf("the socket is not the daemon's to take away: %v", err)
	}
}

// The daemon tells systemd when it is ready, reloading and stopping.
func TestE2ENotify(t *testing.T) {
	s := newSettings(t).oneKey()
	p := start(t, s)
	p.signal(syscall.SIGHUP)
	p.awaitReady(2)
	p.stop()
	seen, _ := p.notes.all()
	seen = slices.DeleteFunc(seen, func(note string) bool { return strings.HasPrefix(note, "MONOTONIC_USEC=") })
	if want := []string{"READY=1", "RELOADING=1", "READY=1", "STOPPING=1"}; !slices.Equal(seen, want) {
		t.Errorf("notes %q, want %q", seen, want)
	}
}

// The kernel knows the peer of a Unix socket only, so any other socket is refused.
func TestE2EHandedOverTCP(t *testing.T) {
	s := newSettings(t).oneKey()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // the test is over

	tl, ok := l.(*net.TCPListener)
	if !ok {
		t.Fatal("no TCP listener")
	}
	file, err := tl.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	cmd := exec.Command("sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" serve --config "$1"`, shared.binary, s.write(t))
	cmd.Env = signetd(s).Env
	cmd.ExtraFiles = []*os.File{file}
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "not a Unix stream socket") {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), out)
	}

	if _, err := send(newClient(s.path("s.sock")), http.MethodGet, api.GetHealth.Path, nil); err == nil {
		t.Error("the daemon answers")
	}
}
