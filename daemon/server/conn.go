package server

import (
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signetd/daemon"
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

// track counts a new connection, and reports false if it must be closed. Above the limit, as
// many connections again are counted as surplus: they get a typed error. One user has at most
// half of either kind, so that another user always gets in.
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

// writeTimeout is how long a peer may take to read its answer.
const writeTimeout = 5 * time.Second

// keepBuffer is how many bytes of a buffer a connection keeps for its next requests.
const keepBuffer = 8 << 10

// A responseQueue holds the responses to requests that came together on one connection, in
// their order, until one write sends them.
type responseQueue struct {
	out     []byte // the responses as they will be sent; may hold secrets, cleared once sent
	list    []queuedResponse
	since   time.Time // when the first was ready
	writeBy time.Time // the write deadline of the connection
	date    dateLine
}

// A queuedResponse is ready to be written, but its audit record may not be durable yet.
type queuedResponse struct {
	daemon.Response     // without its body
	end             int // of the response in responseQueue.out
}

// headBytes is more than the head of a response takes.
const headBytes = 512

// add queues r, and clears its body. If the buffer is too short for it, no copy of earlier
// responses is left behind.
func (q *responseQueue) add(r *daemon.Response, last bool) {
	now := time.Now()
	if len(q.out) == 0 {
		q.since = now
	}

	if need := len(q.out) + headBytes + len(r.Body); need > cap(q.out) {
		grown := append(make([]byte, 0, max(need, 2*cap(q.out))), q.out...)
		clear(q.out)
		q.out = grown
	}
	q.out = appendResponse(q.out, r, last, q.date.at(now))
	clear(r.Body)
	r.Body = nil
	q.list = append(q.list, queuedResponse{*r, len(q.out)})
}

// send waits until the records of all responses are written, and writes the responses to
// c. Those without a record are withheld, and an error is sent in their place.
func (q *responseQueue) send(c net.Conn) error {
	if len(q.list) == 0 {
		return nil
	}

	out, from := q.out, 0
	withheld := false
	for i := range q.list {
		r := &q.list[i]
		if r.Commit() != nil && !withheld {
			withheld = true
			// An error may be longer than the response in whose place it is sent. The copy must
			// not grow, because that would leave secrets of the others behind.
			out = append(make([]byte, 0, len(q.out)+2*headBytes*len(q.list)), q.out[:from]...)
		}
		if withheld {
			if r.Body != nil {
				out = appendResponse(out, &r.Response, false, q.date.at(time.Now()))
			} else {
				out = append(out, q.out[from:r.end]...)
			}
		}
		from = r.end
	}

	now := time.Now()
	if q.writeBy.Sub(now) < writeTimeout/2 { // to set the deadline costs more than to look at it
		q.writeBy = now.Add(writeTimeout)
		_ = c.SetWriteDeadline(q.writeBy) // a connection that is closed fails to write, too
	}
	_, err := c.Write(out)

	clear(out)
	clear(q.out)
	clear(q.list)
	q.out, q.list = q.out[:0], q.list[:0]
	if cap(q.out) > keepBuffer {
		q.out = nil
	}
	return err
}

// appendResponse appends an HTTP response (RFC 9112 section 4).
func appendResponse(b []byte, r *daemon.Response, last bool, date []byte) []byte {
	if r.Status == http.StatusOK {
		b = append(b, "HTTP/1.1 200 OK\r\n"...)
	} else {
		b = append(b, "HTTP/1.1 "...)
		b = strconv.AppendInt(b, int64(r.Status), 10)
		b = append(append(append(b, ' '), http.StatusText(r.Status)...), "\r\n"...)
	}

	b = append(b, "Content-Type: application/json\r\nCache-Control: no-store\r\n"...)
	b = append(b, date...)
	b = append(append(b, "Request-Id: "...), r.RequestID...)
	if r.RetryAfter != "" {
		b = append(append(b, "\r\nRetry-After: "...), r.RetryAfter...)
	}
	if r.Allow != "" {
		b = append(append(b, "\r\nAllow: "...), r.Allow...)
	}
	if last {
		b = append(b, "\r\nConnection: close"...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.Body)), 10)
	return append(append(b, "\r\n\r\n"...), r.Body...)
}

// A dateLine is the Date header of the second for which it was last asked (RFC 9110 section
// 6.6.1). The zero value has none yet.
type dateLine struct {
	second int64
	line   []byte
}

func (d *dateLine) at(now time.Time) []byte {
	if s := now.Unix(); s != d.second {
		d.second = s
		d.line = append(now.UTC().AppendFormat(append(d.line[:0], "Date: "...), http.TimeFormat), "\r\n"...)
	}
	return d.line
}
