package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// A fallback answers, by net/http, the connections that the fast path leaves to it. No
// watchdog looks after them, so that a call into a token runs on a goroutine of its own.
type fallback struct {
	handler  Handler
	limit    int64 // of a body, in bytes
	draining *atomic.Bool
	http     *http.Server
	listener *fallbackListener
	once     sync.Once // for serve
}

func newFallback(h Handler, limits daemon.Limits, draining *atomic.Bool, logger *slog.Logger) *fallback {
	f := &fallback{
		handler: h, limit: limits.RequestBytes, draining: draining,
		listener: &fallbackListener{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
	f.http = &http.Server{
		Handler:           f,
		ReadTimeout:       limits.Timeout,
		ReadHeaderTimeout: limits.Timeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // what peers do wrong, mostly
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState: func(nc net.Conn, state http.ConnState) {
			if c, ok := nc.(*fallbackConn); ok {
				c.state.Store(int32(state)) // #nosec G115 -- one of five
			}
		},
		// OPTIONS * has no meaning here, and net/http would answer it without us.
		DisableGeneralOptionsHandler: true,
	}
	return f
}

// serve has net/http accept connections, from the first call on and until it is shut down.
func (f *fallback) serve() {
	f.once.Do(func() {
		go func() { _ = f.http.Serve(f.listener) }() // ends when net/http is shut down
	})
}

// take hands c over, with the bytes that were read from it already. If net/http takes no
// more connections it closes c.
func (f *fallback) take(c *conn, rest []byte) {
	select {
	case f.listener.conns <- &fallbackConn{c, f.handler, rest}:
	case <-f.listener.closed:
		_ = c.Close() // nothing can be done about an error
	}
}

// connKey is the key of the *fallbackConn in a request's context, which is the one way that
// net/http has to hand it on.
type connKey struct{}

// ServeHTTP implements [http.Handler].
func (f *fallback) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	c, ok := hr.Context().Value(connKey{}).(*fallbackConn)
	if !ok {
		q := f.handler.Begin(policy.Peer{})
		write(w, f.handler.Fail(&q, errors.New("a connection without a peer")))
		return
	}

	hr = f.drained(w, hr)
	q := f.handler.Begin(c.peer)
	q.Method, q.Path = hr.Method, hr.URL.Path
	if c.surplus {
		w.Header().Set("Connection", "close")
		write(w, f.handler.Fail(&q, errTooManyConnections()))
		return
	}

	q.Body, q.BodyErr = f.readBody(w, hr)
	defer clear(q.Body)
	r := f.handler.Answer(hr.Context(), &q)
	_ = r.Commit() // the response says so if it fails
	write(w, r)
}

// A fallbackListener is the listener from which net/http accepts the connections that the
// fast path leaves to it.
type fallbackListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once // for Close
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

// Close implements [net.Listener].
func (h *fallbackListener) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements [net.Listener]: there is no address.
func (*fallbackListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// takesBody reports whether a request has a body that is looked at.
func takesBody(method, path string) bool {
	return method == http.MethodPost && slices.ContainsFunc(api.Routes, func(r api.Route) bool { return r.Method == method && r.Path == path })
}

// readBody reads the body of a request, which may hold secrets: the caller clears it. A
// request that is refused anyhow is refused at once, however slowly its body comes.
func (f *fallback) readBody(w http.ResponseWriter, hr *http.Request) ([]byte, error) {
	if !takesBody(hr.Method, hr.URL.Path) {
		return nil, nil
	}

	body, err := io.ReadAll(http.MaxBytesReader(w, hr.Body, f.limit))
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

// drained returns the context of a request. A request that is read while the
// server drains may have come on a connection that is closed for reading since,
// which net/http takes for a peer that is gone: it must be answered nevertheless,
// and is the last of its connection.
func (f *fallback) drained(w http.ResponseWriter, hr *http.Request) *http.Request {
	if !f.draining.Load() {
		return hr
	}
	w.Header().Set("Connection", "close")
	return hr.WithContext(context.WithoutCancel(hr.Context()))
}

// A fallbackConn is a connection as net/http sees it.
type fallbackConn struct {
	*conn
	handler Handler
	rest    []byte // read before net/http got the connection
}

// Read implements [net.Conn].
func (c *fallbackConn) Read(b []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		clear(c.rest[:n])
		c.rest = c.rest[n:]
		return n, nil
	}
	return c.UnixConn.Read(b)
}

// Write implements [net.Conn]. What net/http says by itself of a request that is
// not HTTP is plain text; the peer gets a typed error, as for any other mistake.
func (c *fallbackConn) Write(b []byte) (int, error) {
	if !isPlainText(b) {
		return c.UnixConn.Write(b)
	}
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout)) // that of an earlier answer may be over
	_, err := c.UnixConn.Write(lastWord(c.handler, c.peer, errNotHTTP()))
	return len(b), err
}

// isPlainText reports whether b is an error that net/http made by itself: its text for a
// request that it cannot read, or its refusal of an Expect header.
func isPlainText(b []byte) bool {
	if bytes.HasPrefix(b, []byte("HTTP/1.1 417 ")) {
		return true
	}
	return (bytes.HasPrefix(b, []byte("HTTP/1.1 4")) || bytes.HasPrefix(b, []byte("HTTP/1.1 5"))) &&
		bytes.Contains(b, []byte("Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"))
}
