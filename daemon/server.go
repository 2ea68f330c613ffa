package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/policy"
)

const (
	writeTimeout = 5 * time.Second // for a peer to take its answer
	retryAccept  = 5 * time.Millisecond
	idleTimeout  = 2 * time.Minute // between two requests of a connection
	maxHeader    = 8 << 10         // bytes of request line and headers
)

// A ServerConfig configures a [Server].
type ServerConfig struct {
	Limits  Limits
	Version string
	// Reload reads the config again and returns how many keys are served then. It
	// is nil in a daemon without a config file.
	Reload func(context.Context) (keys int, err error)
}

// A Server serves a [Service] over Unix sockets by HTTP/1.1. It reads plain requests
// by itself, and leaves connections on which anything else comes to net/http: see
// [Server.serveConn].
type Server struct {
	service *Service
	limits  Limits
	version string
	reload  func(context.Context) (int, error)
	http    *http.Server
	others  handedOver
	log     *slog.Logger

	draining atomic.Bool
	watching atomic.Bool // watchCalls will run

	mu        sync.Mutex
	listeners []net.Listener
	open      map[*conn]struct{}
	count     connections            // of all
	users     map[uint32]connections // by uid, those with any
}

// connections counts the ones that are served and the ones above the limit.
type connections struct{ served, surplus int }

// NewServer returns a server of service.
func NewServer(service *Service, c ServerConfig) *Server {
	s := &Server{
		service: service, limits: c.Limits.WithDefaults(), version: c.Version, reload: c.Reload,
		log: service.log, open: map[*conn]struct{}{}, users: map[uint32]connections{}, others: handedOver{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
	s.http = &http.Server{
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

// Serve answers what comes in on l until [Server.Shutdown]. It returns nil then.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	if s.draining.Load() {
		s.closeListeners() // nobody else does, if it came after Shutdown did
	}
	s.others.serve.Do(func() {
		go func() { _ = s.http.Serve(&s.others) }() // ends with Shutdown
	})
	for {
		nc, err := l.Accept()
		switch {
		case err != nil && s.draining.Load():
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			time.Sleep(retryAccept) // files of this process, or of the host, may be closed meanwhile
		case err != nil:
			return err
		default:
			if err := s.meet(nc); err != nil {
				return err
			}
		}
	}
}

// meet takes in a new connection. One whose peer is not known is closed. One above the
// limit is let in and told so by a typed error, up to as many again; above that, the
// same error is all that it gets.
func (s *Server) meet(nc net.Conn) error {
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
	if s.admit(c) {
		go s.serveConn(c) // ends with the connection, or hands it over
		return nil
	}
	_ = nc.SetWriteDeadline(time.Now().Add(time.Second)) // it fits the socket's buffer; a host under load may need a moment
	_, _ = nc.Write(plainError(http.StatusTooManyRequests, "overloaded", "overloaded: as many connections are open as the limit"))
	nc.Close()
	return nil
}

// A conn is a connection with its peer.
type conn struct {
	*net.UnixConn
	peer    policy.Peer
	surplus bool         // above the limit: it gets an error and nothing else
	state   atomic.Int32 // an http.ConnState
	server  *Server
	once    sync.Once

	watch   watch        // of the goroutine that serves it
	answers *answers     // what that goroutine has not sent yet; it is the watcher's once a call is abandoned
	behind  atomic.Int64 // requests that have come behind the one that is worked on, about
	rest    []byte       // read before net/http got the connection
}

// admit counts a connection in, as surplus if need be, or says no. A user has at
// most half of either sort: whatever one does, another gets in.
func (s *Server) admit(c *conn) bool {
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

func (s *Server) dismiss(c *conn) {
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
	s.service.metrics.connections.Set(float64(s.count.served + s.count.surplus))
}

// Read implements [net.Conn].
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
	c.once.Do(func() { c.server.dismiss(c) })
	return c.UnixConn.Close()
}

// Write implements [net.Conn]. What net/http itself says of a request that is no
// HTTP is plain text or nothing; the peer gets a typed error like any other.
func (c *conn) Write(b []byte) (int, error) {
	if isPlain(b) {
		_ = c.SetWriteDeadline(time.Now().Add(writeTimeout)) // that of an answer before may be over
		_, err := c.UnixConn.Write(plainError(http.StatusBadRequest, "invalid", "invalid request: not an HTTP/1.1 request that this daemon takes"))
		return len(b), err
	}
	return c.UnixConn.Write(b)
}

// isPlain reports whether b is an error answer that net/http made by itself: its
// text for a request that it cannot read, or its refusal of an Expect header.
func isPlain(b []byte) bool {
	if bytes.HasPrefix(b, []byte("HTTP/1.1 417 ")) {
		return true
	}
	return (bytes.HasPrefix(b, []byte("HTTP/1.1 4")) || bytes.HasPrefix(b, []byte("HTTP/1.1 5"))) &&
		bytes.Contains(b, []byte("Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"))
}

// plainError is a whole HTTP answer for a connection that net/http does not
// serve, or gave up.
func plainError(status int, code, message string) []byte {
	r := NewRequest(policy.Peer{})
	body, err := json.Marshal(api.ErrorResponse{Error: api.Error{Code: code, Message: message, RequestID: r.ID}})
	if err != nil {
		return nil
	}
	head := http.Header{"Content-Type": {"application/json"}, "Connection": {"close"}, "Retry-After": {"1"}}
	if status == http.StatusBadRequest {
		head.Del("Retry-After")
	}
	resp := http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: head, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
	var out bytes.Buffer
	if err := resp.Write(&out); err != nil {
		return nil
	}
	return out.Bytes()
}
