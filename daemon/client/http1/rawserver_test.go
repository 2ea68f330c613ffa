package http1

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A rawServer speaks HTTP by hand, so that a test decides which bytes come when.
type rawServer struct {
	socket string
	serve  func(n int, c *rawConn)

	mu    sync.Mutex
	asked map[string]int // how often a request was read, by its id
	conns int
}

// A rawConn is a connection of a rawServer.
type rawConn struct {
	net.Conn
	in     *bufio.Reader
	server *rawServer
}

// newRawServer returns a server that calls serve with the number of each connection, and
// closes the connection when serve returns.
func newRawServer(t *testing.T, serve func(n int, c *rawConn)) *rawServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "raw") // its name is short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{socket: filepath.Join(dir, "s"), serve: serve, asked: map[string]int{}}

	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // until the listener is closed
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns++
			s.mu.Unlock()
			wg.Go(func() { // until serve returns: the client is closed
				defer conn.Close()
				serve(n, &rawConn{conn, bufio.NewReader(conn), s})
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return s
}

// connections returns how many connections were made.
func (s *rawServer) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// timesAsked returns how often a request with this id was read.
func (s *rawServer) timesAsked(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[id]
}

// next reads a request and returns the id in its claims, or "" at the end of the
// connection.
func (c *rawConn) next() (id string) {
	req, err := http.ReadRequest(c.in)
	if err != nil {
		return ""
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return ""
	}

	var q struct {
		Claims struct {
			ID string `json:"jti"`
		} `json:"claims"`
	}
	_ = json.Unmarshal(body, &q)
	id = q.Claims.ID
	if id == "" {
		id = req.URL.Path
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.asked[id]++
	return id
}

// need reads n requests and returns their ids.
func (c *rawConn) need(n int) (ids []string) {
	for range n {
		ids = append(ids, c.next())
	}
	return ids
}

func (c *rawConn) say(texts ...string) {
	for _, text := range texts {
		_, _ = io.WriteString(c, text) // the client may have closed the connection
	}
}

// echoAll answers each request as it comes.
func (c *rawConn) echoAll() {
	for id := c.next(); id != ""; id = c.next() {
		c.say(echo(id))
	}
}

// drain reads until the client closes.
func (c *rawConn) drain() { _, _ = io.Copy(io.Discard, c.in) }

func tokenBody(id string) string { return fmt.Sprintf(`{"token":%q,"kid":"k"}`, id) }

// echo returns the answer whose token is id.
func echo(id string) string { return echoWith(id, "") }

// echoWith returns echo with further headers.
func echoWith(id, headers string) string {
	body := tokenBody(id)
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", headers, len(body), body)
}

// echoChunked returns echo in two chunks.
func echoChunked(id string) string {
	body := tokenBody(id)
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", body[:5], len(body)-5, body[5:])
}

// A testPool is a pool whose calls all have the same timeout.
type testPool struct {
	*ConnPool
	timeout time.Duration
}

func newTestPool(socket string) *testPool { return &testPool{NewConnPool(socket), time.Minute} }

// post makes a call and returns a copy of its answer.
func (c *testPool) post(ctx context.Context, key, body string) ([]byte, error) {
	call := NewCall(http.MethodPost, RouteKey{Path: "/v1/jwt/sign", Key: key})
	defer call.Free()
	call.Request.WriteString(body)
	if err := c.Do(ctx, call, time.Now().Add(c.timeout)); err != nil {
		return nil, err
	}
	if call.Answer.Status != http.StatusOK {
		return nil, fmt.Errorf("status %d", call.Answer.Status)
	}
	return bytes.Clone(call.Answer.Body), nil
}

// sign makes a call with the id and checks that the answer is its own.
func sign(ctx context.Context, c *testPool, key, id string) error {
	body, err := c.post(ctx, key, `{"claims":{"jti":"`+id+`"}}`)
	if err != nil {
		return err
	}
	if got := string(bytes.TrimRight(body, " ")); got != tokenBody(id) {
		return fmt.Errorf("%q has the answer %q", id, got)
	}
	return nil
}

// isLost reports whether err says that the connection ended before the answer: neither
// the time of the call nor the pool did.
func isLost(err error) bool {
	return err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrTooLong)
}

// narrow returns a pool that has all calls of one route share one connection.
func narrow(t *testing.T, s *rawServer) *testPool {
	t.Helper()
	c := newTestPool(s.socket)
	c.spread, c.slow = 1, time.Hour
	t.Cleanup(c.Close)
	return c
}

// waitFor waits until cond holds.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 2000 {
		if cond() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("timed out waiting until %s", what)
}

// A countedConn counts the reads and writes of a connection.
type countedConn struct {
	net.Conn
	reads, writes *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error)  { c.reads.Add(1); return c.Conn.Read(b) }
func (c countedConn) Write(b []byte) (int, error) { c.writes.Add(1); return c.Conn.Write(b) }

// countConns counts the connections that c makes from now on, and their reads and writes.
func countConns(c *testPool, reads, writes, conns *atomic.Int64) {
	dial := c.dial
	c.dial = func(deadline time.Time) (net.Conn, error) {
		conn, err := dial(deadline)
		if err != nil {
			return nil, err
		}
		conns.Add(1)
		return countedConn{conn, reads, writes}, nil
	}
}
