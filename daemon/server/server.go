package server

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signetd/daemon"
	"signetd/signer/supervise"
)

// retryAccept is the pause after an accept that failed for want of file descriptors.
const retryAccept = 5 * time.Millisecond

// A Config configures a [Server].
type Config struct {
	Limits daemon.Limits
	Log    *slog.Logger
	// Registry takes the metric of connections. Optional.
	Registry prometheus.Registerer
}

// A Server serves a [Handler] over Unix sockets. It is safe for concurrent use.
type Server struct {
	handler  Handler
	log      *slog.Logger
	tracker  *tracker
	fast     *fastPath
	fallback *fallback
	draining atomic.Bool // set by Shutdown

	mu        sync.Mutex // guards what follows
	listeners []net.Listener
}

// New returns a server of h.
func New(h Handler, c Config) *Server {
	limits := c.Limits.WithDefaults()
	s := &Server{handler: h, log: c.Log, tracker: newTracker(limits.Connections, c.Registry)}
	watchdog := supervise.NewWatchdog(min(limits.Timeout/10, 100*time.Millisecond), s.timeOutOverdue)
	s.fast = &fastPath{handler: h, limits: limits, watchdog: watchdog, draining: &s.draining, log: c.Log}
	s.fallback = newFallback(h, limits, &s.draining, c.Log)
	return s
}

// Serve answers what comes in on l until [Server.Shutdown], and returns nil then.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	if s.draining.Load() {
		s.closeListeners() // Shutdown came before l was in the list
	}

	s.fallback.serve()

	for {
		nc, err := l.Accept()
		switch {
		case err != nil && s.draining.Load():
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			time.Sleep(retryAccept) // this process, or the host, may close files meanwhile
		case err != nil:
			return err
		default:
			if err := s.accept(nc); err != nil {
				return err
			}
		}
	}
}

// accept takes in a new connection, and closes it if its peer is not known. A connection
// above the limit is let in and told so by a typed error, up to as many again. Above
// that, it gets the same error and is closed.
func (s *Server) accept(nc net.Conn) error {
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		nc.Close()
		return errors.New("listener: not a Unix socket")
	}
	peer, err := peerOf(uc)
	if err != nil {
		s.log.Warn("connection refused", "err", err)
		nc.Close()
		return nil
	}

	c := &conn{UnixConn: uc, peer: peer, tracker: s.tracker}
	if s.tracker.track(c) {
		go func() { // ends with the connection, or hands it over
			if rest, handOver := s.fast.serve(c); handOver {
				s.fallback.take(c, rest)
			}
		}()
		return nil
	}
	_ = nc.SetWriteDeadline(time.Now().Add(time.Second)) // the error fits the socket's buffer; a host under load may need a moment
	_, _ = nc.Write(lastWord(s.handler, peer, errTooManyConnections()))
	nc.Close()
	return nil
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

// timeOutOverdue answers for the connections whose goroutines cannot, since their calls
// into a token do not return. It reports whether any connection is active.
func (s *Server) timeOutOverdue() (active bool) {
	now := time.Now()
	s.tracker.each(func(c *conn) {
		active = active || http.ConnState(c.state.Load()) == http.StateActive // its work may not have begun
		if w := c.inflight.Overdue(now); w != nil {
			go s.timeOut(c, w) // ends when the answer is written
		}
	})
	return active
}

// timeOut answers in place of the goroutine of c, which is stuck in w, and closes c. The
// responses that were ready before go with the answer.
func (s *Server) timeOut(c *conn, w *supervise.Work) {
	r, ok := s.handler.TimeOut(w)
	if !ok {
		return // the call has returned
	}
	c.queue.add(&r, true)
	_ = c.queue.send(c) // the peer may be gone; the record is written
	_ = c.Close()       // nothing can be done about an error
}
