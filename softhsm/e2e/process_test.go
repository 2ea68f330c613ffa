package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/api/apitest"
	"signetd/daemon/audit"
)

// deadline is far longer than any step of a test takes, unless something is broken.
const deadline = 60 * time.Second

// raceOptions are for processes with the race detector: exit at the first race, and do not
// sleep for a second at exit, which is its default.
const raceOptions = "GORACE=halt_on_error=1 atexit_sleep_ms=0"

// A process is a signetd that answers on its socket.
type process struct {
	*settings
	t      *testing.T
	cmd    *exec.Cmd
	notes  *notes
	client *http.Client

	stdout, stderr buffer
	exited         chan struct{} // closed when the process has ended
	stopped        bool          // the test has ended the process
	held           bool          // the socket was handed over or has another name
}

// start starts signetd with the config of s and returns when it reports READY=1. At the end
// of the test signetd gets SIGTERM, and must exit with 0.
func start(t *testing.T, s *settings) *process {
	t.Helper()
	p := prepare(t, s)
	p.launch()
	p.awaitReady(1)
	return p
}

// prepare returns a signetd that is not started yet.
func prepare(t *testing.T, s *settings) *process {
	t.Helper()
	p := &process{settings: s, t: t, exited: make(chan struct{}), notes: listenNotes(t, s.dir)}
	p.client = newClient(p.sock())
	p.cmd = signetd(s, "serve", "--config", s.write(t))
	p.cmd.Env = append(p.cmd.Env, "NOTIFY_SOCKET="+p.notes.path)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	return p
}

// launch starts the process. It is stopped at the end of the test.
func (p *process) launch() {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { // ends with the process, which the cleanup ends
		_ = p.cmd.Wait()
		close(p.exited)
	}()

	p.t.Cleanup(func() {
		if !p.stopped {
			p.stop()
		}
		p.client.CloseIdleConnections()
	})
}

// signetd returns a command that runs signetd in the directory of s.
func signetd(s *settings, args ...string) *exec.Cmd {
	binary := shared.binary
	if s.binary != "" {
		binary = s.binary
	}
	cmd := exec.Command(binary, args...)
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "SOFTHSM2_CONF=" + s.token.Conf(), raceOptions}, s.env...)
	return cmd
}

func (p *process) sock() string { return p.path("s.sock") }

// signal sends a signal.
func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Error(err)
	}
}

// stop ends the process with SIGTERM: it must exit with 0 and remove its socket.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		p.t.Errorf("exit code %d after SIGTERM, want 0\n%s", code, p.stderr.tail())
	}
	if _, err := os.Lstat(p.sock()); !p.held && !errors.Is(err, os.ErrNotExist) {
		p.t.Errorf("the socket is still there: %v", err)
	}
}

// kill ends the process with SIGKILL.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.wait()
}

// wait returns the exit code of a process that is about to end, and checks that
// it did not crash.
func (p *process) wait() int {
	p.t.Helper()
	p.stopped = true
	select {
	case <-p.exited:
	case <-time.After(deadline):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // for the stacks
		<-p.exited
		p.t.Fatalf("still there after %v\n%s", deadline, p.stderr.tail())
	}

	for _, bad := range []string{"DATA RACE", "panic", "fatal error", "goroutine "} {
		if strings.Contains(p.stderr.String(), bad) {
			p.t.Errorf("standard error has %q:\n%s", bad, p.stderr.tail())
			break
		}
	}
	return p.cmd.ProcessState.ExitCode()
}

// alive checks that the daemon answers.
func (p *process) alive() {
	p.t.Helper()
	if a := p.do(http.MethodGet, api.GetHealth.Path, nil); a.status != http.StatusOK {
		p.t.Fatalf("health: %d %s", a.status, a.body)
	}
}

// refused runs signetd with a config that it must refuse, with exit code 1 and one line on
// standard error. It returns the line.
func refused(t *testing.T, s *settings, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := signetd(s, command, "--config", s.write(t))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	_ = cmd.Wait()

	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("%s: exit code %d, want 1\n%s", command, code, stderr.String())
	}
	if stdout.Len() > 0 {
		t.Errorf("%s: standard output: %s", command, stdout.String())
	}

	text := stderr.String()
	if !strings.HasPrefix(text, "signetd: ") || strings.Count(text, "\n") != 1 {
		t.Errorf("%s: standard error is not one line that begins with signetd:\n%s", command, text)
	}
	return text
}

// An answer is an HTTP response with its body.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// newClient returns a client of a daemon's socket that holds each request and answer
// against the description of the API.
func newClient(socket string) *http.Client {
	c := newPlainClient(socket)
	c.Transport = apitest.Transport{Base: c.Transport}
	return c
}

// newPlainClient returns a client that holds nothing against the description.
func newPlainClient(socket string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 128}, Timeout: deadline}
}

// send sends a request and returns the answer. A body that is a string is sent as it is,
// nil as no body, and all else as JSON.
func send(c *http.Client, method, path string, body any) (a answer, err error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		data, err := json.Marshal(body)
		if err != nil {
			return a, err
		}
		r = bytes.NewReader(data)
	}

	req, err := http.NewRequest(method, "http://signetd"+path, r)
	if err != nil {
		return a, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()

	a.status, a.header = resp.StatusCode, resp.Header
	a.body, err = io.ReadAll(resp.Body)
	return a, err
}

// do is send for a test, which it fails if there is no answer.
func (p *process) do(method, path string, body any) answer {
	p.t.Helper()
	a, err := send(p.client, method, path, body)
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s", method, path, err, p.stderr.tail())
	}
	return a
}

// get sends a GET and decodes the answer, which must be 200.
func get[A any](p *process, path string) (out A) {
	p.t.Helper()
	return decode[A](p.t, path, p.do(http.MethodGet, path, nil))
}

// post sends a POST and decodes the answer, which must be 200.
func post[A any](p *process, path string, body any) (out A) {
	p.t.Helper()
	return decode[A](p.t, path, p.do(http.MethodPost, path, body))
}

func decode[A any](t *testing.T, what string, a answer) (out A) {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("%s: %d %s", what, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &out); err != nil {
		t.Fatalf("%s: %v: %s", what, err, a.body)
	}
	return out
}

// wantError checks that a is an error of the given status and code, in the form of
// api.ErrorResponse, and returns its message.
func (a answer) wantError(t *testing.T, status int, code string) string {
	t.Helper()
	var e api.ErrorResponse
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		t.Fatalf("not an api.ErrorResponse: %v: %d %q", err, a.status, a.body)
	}

	if a.status != status || e.Error.Code != code || e.Error.Message == "" || e.Error.RequestID == "" {
		t.Errorf("answer %d %s, want %d with code %s", a.status, a.body, status, code)
	}
	if a.header.Get("Content-Type") != "application/json" {
		t.Errorf("content type %q", a.header.Get("Content-Type"))
	}
	return e.Error.Message
}

var requestID = regexp.MustCompile(`"request_id":"[0-9a-f]{16}"`)

// withoutID returns the body without the request id, the only part that always differs.
func (a answer) withoutID() string {
	return requestID.ReplaceAllString(string(a.body), `"request_id":""`)
}

// records reads the audit log. Every line must be a record.
func (s *settings) records(t *testing.T) []audit.Record {
	t.Helper()
	return parseRecords(t, readFile(t, s.path("audit.jsonl")))
}

func parseRecords(t *testing.T, text string) (list []audit.Record) {
	t.Helper()
	for line := range strings.Lines(text) {
		var r audit.Record
		dec := json.NewDecoder(strings.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&r); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("audit: %v: %q", err, line)
		}
		list = append(list, r)
	}
	return list
}
