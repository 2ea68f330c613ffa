package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// Shutdown stops. No new connection is let in, and requests that came in are answered.
// When all are, it returns nil; when ctx ends before, an error. The sockets should be
// unlinked before it.
//
// http.Server.Shutdown alone would lose requests: it closes each connection that it takes
// for idle, and each whose answer has left, even if the next request has come in on it
// already. So every connection is closed for reading first, while no request on it is
// worked on. From then on its peer cannot send, and knows it. What the peer had sent
// before is still read and answered.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.closeListeners()

	left := s.closeIdle()
	for left && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
		left = s.closeIdle()
	}

	err := s.fallback.Shutdown(ctx)
	switch {
	case left: // net/http need not know of these
		return ctx.Err()
	case errors.Is(err, net.ErrClosed): // it closes listeners, too, if it is quick
		return nil
	}
	return err
}

// closeListeners ends the accepting of connections. Those that wait at a socket which
// systemd holds wait for the next daemon.
func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close() // its owner closes it again, and sees the error
	}
}

// closeIdle closes for reading the connections on which no request is being
// worked on. Each of them ends by itself, now or after the answer to what is
// still in it. It reports whether any connection is left.
func (s *Server) closeIdle() (left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		switch http.ConnState(c.state.Load()) { //nolint:exhaustive // the others end by themselves
		case http.StateNew, http.StateIdle:
			_ = c.CloseRead() // or the peer is gone
		}
	}
	return len(s.open) > 0
}

// noteState implements http.Server.ConnState.
func noteState(nc net.Conn, state http.ConnState) {
	if c, ok := nc.(*conn); ok {
		c.state.Store(int32(state)) // #nosec G115 -- one of five
	}
}

// drained returns the context of a request. A request that is read while the
// server drains may have come on a connection that is closed for reading since,
// which net/http takes for a peer that is gone: it must be answered nevertheless,
// and is the last of its connection.
func (s *Server) drained(w http.ResponseWriter, hr *http.Request) *http.Request {
	if !s.draining.Load() {
		return hr
	}
	w.Header().Set("Connection", "close")
	return hr.WithContext(context.WithoutCancel(hr.Context()))
}
