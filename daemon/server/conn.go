package server

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signetd/daemon/policy"
	"signetd/signer/supervise"
)

// idleTimeout is how long a connection may have no request.
const idleTimeout = 2 * time.Minute

// A conn is a connection with its peer.
type conn struct {
	*net.UnixConn
	peer    policy.Peer
	surplus bool // above the limit: it gets an error and nothing else
	tracker *tracker
	once    sync.Once    // for Close
	state   atomic.Int32 // an http.ConnState, for drain and the watchdog

	inflight supervise.InFlight // what the connection's goroutine works on
	// queue is the goroutine's. Once the watchdog has timed out its work, it is the
	// watchdog's.
	queue responseQueue
}

// A tracker knows the open connections and keeps to their limits. It is safe for concurrent
// use.
type tracker struct {
	most  int              // connections that are served at the same time
	gauge prometheus.Gauge // of open connections

	mu    sync.Mutex // guards what follows
	open  map[*conn]struct{}
	count connections            // of all
	users map[uint32]connections // by uid, those with any
}

// connections counts those that are served, and those above the limit.
type connections struct{ served, surplus int }

func newTracker(most int, r prometheus.Registerer) *tracker {
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "signetd_connections", Help: "Open connections."})
	if r != nil {
		r.MustRegister(gauge)
	}
	return &tracker{most: most, gauge: gauge, open: map[*conn]struct{}{}, users: map[uint32]connections{}}
}

// each calls f with each open connection. No connection opens or closes meanwhile.
func (t *tracker) each(f func(*conn)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		f(c)
	}
}

// track counts a connection in, as surplus if need be, or returns false. A user has at most
// half of either kind: whatever one user does, another gets in.
func (t *tracker) track(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()

	user := t.users[c.peer.UID]
	half := max(1, t.most/2)
	switch {
	case t.count.served < t.most && user.served < half:
	case t.count.surplus < t.most && user.surplus < half:
		c.surplus = true
	default:
		return false
	}

	t.open[c] = struct{}{}
	t.countLocked(c, 1)
	return true
}

func (t *tracker) untrack(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
	t.countLocked(c, -1)
}

func (t *tracker) countLocked(c *conn, n int) {
	user := t.users[c.peer.UID]
	if c.surplus {
		t.count.surplus += n
		user.surplus += n
	} else {
		t.count.served += n
		user.served += n
	}

	if t.users[c.peer.UID] = user; user == (connections{}) {
		delete(t.users, c.peer.UID)
	}
	t.gauge.Set(float64(t.count.served + t.count.surplus))
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.once.Do(func() { c.tracker.untrack(c) })
	return c.UnixConn.Close()
}
