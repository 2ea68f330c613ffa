package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/daemon/policy"
)

// conn returns a connection of uid that ends with the test.
func (f *fixture) conn(t *testing.T, uid uint32) *conn {
	c := &conn{UnixConn: &net.UnixConn{}, peer: policy.Peer{UID: uid}, tracker: f.server.tracker}
	t.Cleanup(func() {
		if _, ok := f.server.tracker.open[c]; ok {
			f.server.tracker.untrack(c)
		}
	})
	return c
}

// TestOneUserDoesNotFillTheDaemon: with all the connections that one user can
// have open, another still gets in.
func TestOneUserDoesNotFillTheDaemon(t *testing.T) {
	f := serve(t, daemon.Limits{Connections: 8})
	var served, surplus, refused int
	for range 100 {
		switch c := f.conn(t, 1); {
		case !f.server.tracker.track(c):
			refused++
		case c.surplus:
			surplus++
		default:
			served++
		}
	}
	if served != 4 || surplus == 0 || refused == 0 {
		t.Errorf("of one user's 100 connections %d are served, %d told no in HTTP and %d told no at once", served, surplus, refused)
	}
	for i := range 4 {
		c := f.conn(t, 2)
		if !f.server.tracker.track(c) || c.surplus {
			t.Fatalf("another user's connection %d is not served", i+1)
		}
	}
}

// TestDismissUndoesAdmit: what was counted in is counted out.
func TestDismissUndoesAdmit(t *testing.T) {
	f := serve(t, daemon.Limits{Connections: 4})
	var open []*conn
	for uid := range uint32(20) {
		if c := (&conn{UnixConn: &net.UnixConn{}, peer: policy.Peer{UID: uid % 3}, tracker: f.server.tracker}); f.server.tracker.track(c) {
			open = append(open, c)
		}
	}
	for _, c := range open {
		f.server.tracker.untrack(c)
	}
	if f.server.tracker.count != (connections{}) || len(f.server.tracker.users) != 0 {
		t.Errorf("with all connections gone: %+v, users %v", f.server.tracker.open, f.server.tracker.users)
	}
}
func TestConnectionLimit(t *testing.T) {
	f := serve(t, daemon.Limits{Connections: 4}) // 2 of one user, and as many again that are told so
	request := "GET " + api.GetHealth.Path + " HTTP/1.1\r\nHost: x\r\n\r\n"
	ask := func(i int) int {
		c := f.dial(t)
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		status := make([]byte, 12)
		if _, err := io.ReadFull(c, status); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		var code int
		for _, d := range status[9:] {
			code = 10*code + int(d-'0')
		}
		return code
	}
	for i, want := range []int{200, 200, 429, 429} {
		if got := ask(i); got != want {
			t.Errorf("connection %d of one user: status %d, want %d", i, got, want)
		}
	}
}

// TestConnectionFlood opens far more connections than there may be, all at once.
func TestConnectionFlood(t *testing.T) {
	f := serve(t, daemon.Limits{Connections: 16})
	var ok, refused atomic.Int64
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			c := f.dial(t)
			_, _ = io.WriteString(c, "GET "+api.GetHealth.Path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			answer, err := io.ReadAll(c)
			switch {
			case len(answer) > 12 && string(answer[9:12]) == "200":
				ok.Add(1)
			case len(answer) > 12 && string(answer[9:12]) == "429":
				refused.Add(1)
			default:
				t.Errorf("an answer of %q, %v", answer, err)
			}
		})
	}
	wg.Wait()
	if ok.Load() == 0 {
		t.Errorf("%d were served and %d refused", ok.Load(), refused.Load())
	}
	if status, body := f.do(t, "GET", api.GetHealth.Path, ""); status != http.StatusOK {
		t.Errorf("afterwards: %d %s", status, body)
	}
}

// TestBytes sends what is no request.
func TestBytes(t *testing.T) {
	f := serve(t, daemon.Limits{Timeout: 500 * time.Millisecond})
	long := strings.Repeat("x", 20000)
	tests := map[string]string{
		"garbage":          "GARBAGE\r\n\r\n",
		"nothing":          "\r\n\r\n",
		"zeros":            strings.Repeat("\x00", 512),
		"TLS":              "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"HTTP/2":           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"HTTP/3.7":         "GET / HTTP/3.7\r\nHost: x\r\n\r\n",
		"no host":          "GET /v1/jwks HTTP/1.1\r\n\r\n",
		"long line":        "GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"long header":      "GET /v1/jwks HTTP/1.1\r\nHost: x\r\nX: " + long + "\r\n\r\n",
		"two lengths":      "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"negative length":  "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\n\r\n{}",
		"length and chunk": "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
		"bad chunk":        "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
		"unknown coding":   "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n{}",
		"half a header":    "POST /v1/jwt/sign HTTP/1.1\r\nHos",
		"half a body":      "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"key\":",
		"expectation":      "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nExpect: magic\r\nContent-Length: 2\r\n\r\n{}",
		"CONNECT":          "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
		"upgrade":          "GET /v1/jwks HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
	}
	for name, input := range tests {
		t.Run(name, func(t *testing.T) {
			c := f.dial(t)
			if _, err := io.WriteString(c, input); err != nil {
				t.Fatal(err)
			}
			checkAnswers(t, c)
		})
	}
	if status, body := f.do(t, "GET", api.GetHealth.Path, ""); status != http.StatusOK {
		t.Errorf("afterwards: %d %s", status, body)
	}
}

// checkAnswers reads all that comes on c until it is closed or silent: each is an
// HTTP answer with a JSON body, and typed if it is an error.
func checkAnswers(t testing.TB, c net.Conn) {
	t.Helper()
	if u, ok := c.(*net.UnixConn); ok {
		_ = u.CloseWrite() // it may be closed already
	}
	r := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(r, nil)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && r.Buffered() == 0 {
			return
		}
		var closed *net.OpError
		if errors.As(err, &closed) && !closed.Timeout() {
			return
		}
		if err != nil {
			t.Fatalf("neither an answer nor a closed connection: %v", err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !json.Valid(body) && resp.StatusCode != http.StatusContinue {
			t.Fatalf("status %d with body %q, %v", resp.StatusCode, body, err)
		}
		if resp.StatusCode >= 400 {
			errorCode(t, string(body))
		}
	}
}

// FuzzConnection sends any bytes on a connection.
func FuzzConnection(f *testing.F) {
	for _, s := range []string{
		"GET /v1/jwks HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 41\r\n\r\n{\"key\":\"oidc\",\"claims\":{\"aud\":\"api\"}}   ",
		"POST /v1/jwe/decrypt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n{\"jwe\":\"a.b\"}\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
		"GARBAGE\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	server := serve(f, daemon.Limits{Timeout: 2 * time.Second})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := net.Dial("unix", server.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(data) // the daemon may hang up in the middle of it
		checkAnswers(t, c)
	})
}

// A tardyListener is one whose Accept takes its time to notice a Close.
type tardyListener struct {
	net.Listener
	closed chan struct{}
}

func (l *tardyListener) Accept() (net.Conn, error) {
	<-l.closed
	time.Sleep(50 * time.Millisecond)
	return nil, net.ErrClosed
}

func (l *tardyListener) Close() error {
	select {
	case <-l.closed:
		return net.ErrClosed
	default:
		close(l.closed)
		return nil
	}
}

// TestShutdownClosesOnce: that the daemon closed a listener before net/http does
// is no error.
func TestShutdownClosesOnce(t *testing.T) {
	s := New(serve(t, daemon.Limits{}).service, Config{Log: slog.New(slog.DiscardHandler)})
	l := &tardyListener{closed: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }() // ends with Shutdown
	for tracked := false; !tracked; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		tracked = len(s.listeners) > 0
		s.mu.Unlock()
	}
	time.Sleep(50 * time.Millisecond) // for net/http to have it, too
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve() = %v", err)
	}
}

// TestTooLong: a body above the limit is refused with a record, whichever way it comes.
func TestTooLong(t *testing.T) {
	f := serve(t, daemon.Limits{RequestBytes: 4096})
	const secret = "hunter2-hunter2"
	status, answer := f.do(t, "POST", api.SignJWT.Path, `{"key":"`+strings.Repeat(secret, 400)+`"}`)
	if status != http.StatusBadRequest || errorCode(t, answer) != "invalid" || strings.Contains(answer, secret) {
		t.Errorf("status %d %s, want 400 invalid", status, answer)
	}
	if list := f.records(t); len(list) != 1 || list[0].Outcome != "invalid" || list[0].Op != string(api.OpSignJWT) {
		t.Errorf("records: %+v", list)
	}
}

// TestNoBodyWanted: a request that is refused whatever its body says is answered before the
// body has come, and its client is not told to send it.
func TestNoBodyWanted(t *testing.T) {
	f := serve(t, daemon.Limits{})
	for path, want := range map[string]int{"/v1/nothing": http.StatusNotFound, api.ListKeys.Path: http.StatusMethodNotAllowed, api.ListKeys.Path + "/oidc": http.StatusMethodNotAllowed} {
		c := f.dial(t)
		if _, err := io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if a := readAnswers(t, c, 1)[0]; a.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", path, a.StatusCode, a.body, want)
		}
	}
}
