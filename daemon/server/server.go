package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signetd/daemon"
	"signetd/daemon/policy"
	"signetd/signer"
	"signetd/signer/supervise"
)

const (
	writeTimeout = 5 * time.Second // for a peer to take its answer
	retryAccept  = 5 * time.Millisecond
	idleTimeout  = 2 * time.Minute // between two requests of a connection
	maxHeader    = 8 << 10         // bytes of request line and headers
)

// A Handler answers requests. It is all that this package knows of the service.
type Handler interface {
	// Begin returns a request of peer with an id of its own.
	Begin(peer policy.Peer) daemon.Request
	// Answer does what a request asks for. The response must not be sent before its
	// Commit has returned.
	Answer(ctx context.Context, q *daemon.Request) daemon.Response
	// TimeOut answers in place of a goroutine that is stuck in w, or reports false if
	// that has an answer after all.
	TimeOut(w *supervise.Work) (daemon.Response, bool)
	// Fail is the answer to a request that this package refuses because of err.
	Fail(q *daemon.Request, err error) daemon.Response
}

var _ Handler = (*daemon.Service)(nil)

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
	limits   daemon.Limits
	log      *slog.Logger
	gauge    prometheus.Gauge // of open connections
	fallback *http.Server
	handOver fallbackListener
	watchdog *supervise.Watchdog

	draining atomic.Bool // set by Shutdown

	mu        sync.Mutex // guards what follows
	listeners []net.Listener
	open      map[*conn]struct{}
	count     connections            // of all
	users     map[uint32]connections // by uid, those with any
}

// connections counts those that are served, and those above the limit.
type connections struct{ served, surplus int }

// New returns a server of h.
func New(h Handler, c Config) *Server {
	s := &Server{
		handler: h, limits: c.Limits.WithDefaults(), log: c.Log,
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "signetd_connections", Help: "Open connections."}),
		open:  map[*conn]struct{}{}, users: map[uint32]connections{},
		handOver: fallbackListener{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
	if c.Registry != nil {
		c.Registry.MustRegister(s.gauge)
	}
	s.watchdog = supervise.NewWatchdog(min(s.limits.Timeout/10, 100*time.Millisecond), s.timeOutOverdue)

	s.fallback = &http.Server{
		Handler:           s,
		ReadTimeout:       s.limits.Timeout,
		ReadHeaderTimeout: s.limits.Timeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what peers do wrong, mostly
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState:         noteState,
		// OPTIONS * has no meaning here, and net/http would answer it without us.
		DisableGeneralOptionsHandler: true,
	}
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

	s.handOver.serve.Do(func() {
		go func() { _ = s.fallback.Serve(&s.handOver) }() // ends with Shutdown
	})

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

	c := &conn{UnixConn: uc, peer: peer, server: s}
	if s.track(c) {
		go s.serveConn(c) // ends with the connection, or hands it over
		return nil
	}
	_ = nc.SetWriteDeadline(time.Now().Add(time.Second)) // the error fits the socket's buffer; a host under load may need a moment
	_, _ = nc.Write(s.lastWord(peer, errTooManyConnections()))
	nc.Close()
	return nil
}

// A conn is a connection with its peer.
type conn struct {
	*net.UnixConn
	peer    policy.Peer
	surplus bool // above the limit: it gets an error and nothing else
	server  *Server
	once    sync.Once
	state   atomic.Int32 // an http.ConnState, for drain and the watchdog

	inflight supervise.InFlight // what the connection's goroutine works on
	// queue is the goroutine's. Once the watchdog has timed out its work, it is the
	// watchdog's.
	queue responseQueue
	rest  []byte // read before net/http got the connection
}

// track counts a connection in, as surplus if need be, or returns false. A user has at most
// half of either kind: whatever one user does, another gets in.
func (s *Server) track(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	most, user := s.limits.Connections, s.users[c.peer.UID]
	half := max(1, most/2)
	switch {
	case s.count.served < most && user.served < half:
	case s.count.surplus < most && user.surplus < half:
		c.surplus = true
	default:
		return false
	}

	s.open[c] = struct{}{}
	s.countLocked(c, 1)
	return true
}

func (s *Server) untrack(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	s.countLocked(c, -1)
}

func (s *Server) countLocked(c *conn, n int) {
	user := s.users[c.peer.UID]
	if c.surplus {
		s.count.surplus += n
		user.surplus += n
	} else {
		s.count.served += n
		user.served += n
	}

	if s.users[c.peer.UID] = user; user == (connections{}) {
		delete(s.users, c.peer.UID)
	}
	s.gauge.Set(float64(s.count.served + s.count.surplus))
}

// timeOutOverdue answers for the connections whose goroutines cannot, since their calls
// into a token do not return. It reports whether any connection is active.
func (s *Server) timeOutOverdue() (active bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	now := time.Now()
	for c := range s.open {
		active = active || http.ConnState(c.state.Load()) == http.StateActive // its work may not have begun
		if w := c.inflight.Overdue(now); w != nil {
			go c.timeOut(w) // ends when the answer is written
		}
	}
	return active
}

// timeOut answers in place of the goroutine of c, which is stuck in w, and closes c. The
// responses that were ready before go with the answer.
func (c *conn) timeOut(w *supervise.Work) {
	r, ok := c.server.handler.TimeOut(w)
	if !ok {
		return // the call has returned
	}
	c.queue.add(&r, true)
	_ = c.queue.send(c) // the peer may be gone; the record is written
	_ = c.Close()       // nothing can be done about an error
}

// Read implements [net.Conn], for net/http.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		clear(c.rest[:n])
		c.rest = c.rest[n:]
		return n, nil
	}
	return c.UnixConn.Read(b)
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.once.Do(func() { c.server.untrack(c) })
	return c.UnixConn.Close()
}

// Write implements [net.Conn], for net/http. What that says by itself of a request that is
// not HTTP is plain text; the peer gets a typed error, as for any other mistake.
func (c *conn) Write(b []byte) (int, error) {
	if !isPlainText(b) {
		return c.UnixConn.Write(b)
	}
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout)) // that of an earlier answer may be over
	_, err := c.UnixConn.Write(c.server.lastWord(c.peer, errNotHTTP()))
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

// lastWord is a whole HTTP response with an error, after which the connection is closed.
func (s *Server) lastWord(peer policy.Peer, err error) []byte {
	q := s.handler.Begin(peer)
	r := s.handler.Fail(&q, err)
	return appendResponse(nil, &r, true, new(dateLine).at(time.Now()))
}

func errTooManyConnections() error {
	return fmt.Errorf("%w: as many connections are open as the limit", signer.ErrOverloaded)
}

func errNotHTTP() error {
	return fmt.Errorf("%w: not an HTTP/1.1 request that this daemon takes", signer.ErrInvalid)
}

func errSlowBody() error {
	return fmt.Errorf("the body did not come in time: %w", context.DeadlineExceeded)
}

func errShortBody() error { return fmt.Errorf("%w: the body ends early", signer.ErrInvalid) }
