package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"signetd/daemon/api"
)

// A signLoop is a number of clients, each of which signs one token after another.
type signLoop struct {
	wg    sync.WaitGroup
	quit  chan struct{}
	began chan struct{} // one for each token

	mu     sync.Mutex
	tokens []string
	errs   []error
}

// loop starts n clients, each with a kept-alive connection. A client ends when quit is
// closed, when the socket refuses connections, or at an error.
func (s *settings) loop(n int) *signLoop {
	l := &signLoop{quit: make(chan struct{}), began: make(chan struct{}, 1<<20)}
	for i := range n {
		l.wg.Go(func() { // ends with its quit, or with the daemon
			client := newClient(s.path("s.sock"))
			defer client.CloseIdleConnections()
			for j := 0; ; j++ {
				select {
				case <-l.quit:
					return
				default:
				}
				body := fmt.Sprintf(`{"key":"oidc","claims":{"aud":"api","jti":"%d-%d"}}`, i, j)
				a, err := send(client, http.MethodPost, api.SignJWT.Path, body)
				if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
					return // this one never had a connection
				}
				if !l.note(a, err) {
					return
				}
			}
		})
	}

	return l
}

func (l *signLoop) note(a answer, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%d %s", a.status, a.body)
	}
	if err != nil {
		l.errs = append(l.errs, err)
		return false
	}

	_, rest, _ := strings.Cut(string(a.body), `"token":"`)
	token, _, _ := strings.Cut(rest, `"`)
	l.tokens = append(l.tokens, token)
	l.began <- struct{}{}
	return true
}

// await waits until the clients have n more tokens.
func (l *signLoop) await(t *testing.T, n int) {
	t.Helper()
	late := time.After(deadline)
	for range n {
		select {
		case <-l.began:
		case <-late:
			t.Fatal("the clients get no tokens")
		}
	}
}

// end waits for the clients. It checks that none got an error, and that the audit log has
// one record for each token.
func (l *signLoop) end(t *testing.T, s *settings) {
	t.Helper()
	l.wg.Wait()
	for _, err := range l.errs {
		t.Errorf("a request was lost: %v", err)
	}
	have := map[string]int{}
	for _, r := range s.records(t) {
		if r.Op == "sign-jwt" && r.Outcome == "ok" {
			have[r.JTI]++
		}
	}

	for _, token := range l.tokens {
		jti, ok := claim(t, token, "jti").(string)
		if !ok || have[jti] != 1 {
			t.Errorf("%d records of the token with jti %q, want 1", have[jti], jti)
		}
	}

	if len(have) != len(l.tokens) {
		t.Errorf("%d records for %d tokens", len(have), len(l.tokens))
	}
}

// A stop answers every accepted request. Later clients find no socket.
func TestE2ETermInFlight(t *testing.T) {
	for round := range 3 {
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			s := newSettings(t).oneKey()
			s.limits = `{connections: 256, in_flight: 64, per_peer: 64}`
			s.log = `{level: info}`
			p := start(t, s)
			clients := p.loop(32)
			clients.await(t, 200)
			p.stop()
			clients.end(t, s)
			if !strings.Contains(p.stderr.String(), "msg=stopped") {
				t.Errorf("the log does not end well: %s", p.stderr.tail())
			}
		})
	}
}

// A client that sends on a kept-alive connection during the stop gets its answer or cannot
// send. The daemon discards no request that was sent.
func TestE2ETermOnKeptConnections(t *testing.T) {
	s := newSettings(t).oneKey()
	s.limits = `{connections: 256, per_peer: 64}`
	p := start(t, s)
	var wg sync.WaitGroup
	for i := range 64 {
		c := p.dial()
		r := bufio.NewReader(c)
		if err := ping(c, r); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { // ends when the daemon has closed the connection
			time.Sleep(time.Duration(i) * 4 * time.Millisecond) // spread over the whole stop
			if err := ping(c, r); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%d: a request that was sent is lost: %v", i, err)
			}
		})
	}

	p.stop()
	wg.Wait()
}

// ping sends a request and reads the answer. EPIPE means that nothing was sent.
func ping(c net.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(c, "GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// dial connects to the daemon. The connection is closed at the end of the test.
func (p *process) dial() net.Conn {
	p.t.Helper()
	c, err := net.Dial("unix", p.sock())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Idle connections do not delay the stop.
func TestE2ETermWithIdleConnections(t *testing.T) {
	p := start(t, newSettings(t).oneKey())
	for range 20 {
		p.dial()
	}
	c := p.dial()
	if err := ping(c, bufio.NewReader(c)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.stop()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the stop took %v", took)
	}
}

func TestE2ETermTwice(t *testing.T) {
	p := start(t, newSettings(t).oneKey())
	p.signal(syscall.SIGINT)
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Lstat(p.sock()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}
