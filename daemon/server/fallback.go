package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"signetd/daemon"
	"signetd/daemon/policy"
	"signetd/signer"
)

// connKey is the key of the *conn in a request's context, which is the one way
// that net/http has to hand it on.
type connKey struct{}

// ServeHTTP implements [http.Handler], for the connections that the fast path leaves to
// net/http: see [Server.serveConn]. No watchdog looks after these, so that a call into a
// token runs on a goroutine of its own.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	c, ok := hr.Context().Value(connKey{}).(*conn)
	if !ok {
		q := s.handler.Begin(policy.Peer{})
		write(w, s.handler.Fail(&q, errors.New("a connection without a peer")))
		return
	}

	hr = s.drained(w, hr)
	q := s.handler.Begin(c.peer)
	q.Method, q.Path = hr.Method, hr.URL.Path
	if c.surplus {
		w.Header().Set("Connection", "close")
		write(w, s.handler.Fail(&q, errTooManyConnections()))
		return
	}

	q.Body, q.BodyErr = s.readBody(w, hr)
	defer clear(q.Body)
	r := s.handler.Answer(hr.Context(), &q)
	_ = r.Commit() // the response says so if it fails
	write(w, r)
}

// A fallbackListener is the listener from which net/http accepts the connections that the
// fast path leaves to it.
type fallbackListener struct {
	serve  sync.Once
	close  sync.Once
	conns  chan net.Conn
	closed chan struct{}
}

// Accept implements [net.Listener].
func (h *fallbackListener) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, http.ErrServerClosed
	}
}

// take hands c over, or closes it if net/http takes no more.
func (h *fallbackListener) take(c *conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close() // nothing can be done about an error
	}
}

// Close implements [net.Listener].
func (h *fallbackListener) Close() error {
	h.close.Do(func() { close(h.closed) })
	return nil
}

// Addr implements [net.Listener]: there is no address.
func (*fallbackListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// readBody reads the body of a POST, which may hold secrets: the caller clears it.
func (s *Server) readBody(w http.ResponseWriter, hr *http.Request) ([]byte, error) {
	if hr.Method != http.MethodPost {
		return nil, nil // no other request has one that is looked at
	}

	body, err := io.ReadAll(http.MaxBytesReader(w, hr.Body, s.limits.RequestBytes))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return body, fmt.Errorf("%w: the body is longer than %d bytes", signer.ErrInvalid, tooLong.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return body, errSlowBody()
	case err != nil:
		return body, errShortBody()
	}
	return body, nil
}

// write sends a response.
func write(w http.ResponseWriter, r daemon.Response) {
	defer clear(r.Body)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Request-Id", r.RequestID)
	if r.RetryAfter != "" {
		h.Set("Retry-After", r.RetryAfter)
	}
	if r.Allow != "" {
		h.Set("Allow", r.Allow)
	}

	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // every connection of ours has deadlines
	w.WriteHeader(r.Status)
	_, _ = w.Write(r.Body) // #nosec G705 -- JSON, and to no browser. The peer may be gone; the record is written
}
