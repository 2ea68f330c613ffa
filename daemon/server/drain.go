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

	err := s.fallback.http.Shutdown(ctx)
	switch {
	case left: // net/http need not know of these
		return ctx.Err()
	case errors.Is(err, net.ErrClosed): // it closes listeners, too, if it is quick
		return nil
	}
	return err
}

// closeIdle closes for reading the connections on which no request is worked on. Each of
// them ends by itself, now or after the answer to what has come on it already. It reports
// whether any connection is left.
func (s *Server) closeIdle() (left bool) {
	s.tracker.each(func(c *conn) {
		left = true
		switch http.ConnState(c.state.Load()) { //nolint:exhaustive // the others end by themselves
		case http.StateNew, http.StateIdle:
			_ = c.CloseRead() // or the peer is gone
		}
	})
	return left
}
