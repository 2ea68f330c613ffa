package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"signetd/daemon/policy"
	"signetd/signer"
)

// connKey is the key of the *conn in a request's context, which is the one way
// that net/http has to hand it on.
type connKey struct{}

// ServeHTTP implements [http.Handler], for the connections that the server hands over
// to net/http: see [Server.serveConn].
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	c, ok := hr.Context().Value(connKey{}).(*conn)
	if !ok {
		q := &request{Request: NewRequest(policy.Peer{})}
		write(w, q, fail(q, errors.New("a connection without a peer")))
		return
	}
	hr = s.drained(w, hr)
	q := &request{Request: NewRequest(c.peer), method: hr.Method, path: hr.URL.Path}
	if c.surplus {
		w.Header().Set("Connection", "close")
		write(w, q, fail(q, errSurplus()))
		return
	}
	var records records
	q.records = &records
	q.body, q.bodyErr = s.readBody(w, hr)
	defer clear(q.body)
	a := s.answer(hr.Context(), q)
	if err := records.commit(s.service); err != nil {
		clear(a.body)
		a = fail(q, err)
	}
	write(w, q, a)
}

// A handedOver is the listener that net/http accepts connections from which the server
// hands over to it.
type handedOver struct {
	serve  sync.Once
	close  sync.Once
	conns  chan net.Conn
	closed chan struct{}
}

// Accept implements [net.Listener].
func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, http.ErrServerClosed
	}
}

// take hands c over, or closes it if net/http takes no more.
func (h *handedOver) take(c *conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close() // there is nothing to be done about an error
	}
}

// Close implements [net.Listener].
func (h *handedOver) Close() error {
	h.close.Do(func() { close(h.closed) })
	return nil
}

// Addr implements [net.Listener]: it has none of its own.
func (*handedOver) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

func errSurplus() error {
	return fmt.Errorf("%w: as many connections are open as the limit", signer.ErrOverloaded)
}

// readBody reads a body, which may hold secrets: the caller clears it.
func (s *Server) readBody(w http.ResponseWriter, hr *http.Request) ([]byte, error) {
	if hr.Method != http.MethodPost || routes[hr.URL.Path].method != http.MethodPost {
		return nil, nil // it takes none
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, hr.Body, s.limits.RequestBytes))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return body, errTooLong(tooLong.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return body, errSlow()
	case err != nil:
		return body, fmt.Errorf("%w: the body ends early", signer.ErrInvalid)
	}
	return body, nil
}

func errTooLong(most int64) error {
	return fmt.Errorf("%w: the body is longer than %d bytes", signer.ErrInvalid, most)
}

func errSlow() error {
	return fmt.Errorf("the body did not come in time: %w", context.DeadlineExceeded)
}

// write sends an answer.
func write(w http.ResponseWriter, q *request, a response) {
	defer clear(a.body)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Request-Id", q.ID)
	if a.retryAfter != "" {
		h.Set("Retry-After", a.retryAfter)
	}
	if a.allow != "" {
		h.Set("Allow", a.allow)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // a connection without deadlines is none of ours
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // #nosec G705 -- JSON, and to no browser. The peer may be gone; the record is written
}
