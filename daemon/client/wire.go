package client

import (
	"context"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A wire is the connections to one daemon, and HTTP/1.1 (RFC 9112) over them: as
// much of it as a daemon and its client need on a Unix socket. net/http's Transport
// takes two goroutines and several times the processor for the same.
//
// Where many calls are in flight they share connections: the requests of calls of
// one [lane] are written behind each other, and the daemon answers in their order
// (pipelining, RFC 9112 section 9.3.2). That section allows it for methods that
// are idempotent, or where the client can recover if a connection ends in the
// middle. The calls that share are such, although they are POSTs: to sign or to
// open leaves nothing in the daemon but a record, whatever the order, so that a request
// which was not answered is asked again: by itself and on another connection, as the
// section has it.
//
// No goroutine belongs to a connection. A call that finds nobody writing writes what
// has gathered, its own and others'; one that finds nobody reading reads, for
// others as for itself. So a call that is alone does its one write and its reads
// and hands nothing over.
type wire struct {
	bounds
	dial func(deadline time.Time) (net.Conn, error)

	mu      sync.Mutex // guards all below, and what the calls and the pipes say it does
	open    []*pipe    // all but those that are dead; as many as bounds say
	idle    []*pipe    // of these, those without a call; the last is the one that was used last
	waiting []*call    // for a connection, in the order in which they came
}

// maxShared is the length in bytes of a request up to which it shares a connection: a
// longer one costs its bytes and not its system calls.
const maxShared = 16 << 10

// bounds say how calls are spread over connections.
type bounds struct {
	connections int           // at most
	spread      int           // that a lane uses before its calls share one
	depth       int           // calls that share one at most
	slow        time.Duration // to answer: the backend is far, and its calls must run side by side
}

// spread is how many connections the calls of a lane use before they share: as many as
// the daemon, which is on this host, can work on at once, and twice; 8 at least. With
// more, each answer comes alone and costs a system call. With fewer, calls that take the
// token long wait for many others.
func spread() int { return min(max(8, 2*runtime.GOMAXPROCS(0)), connections/2) }

func newWire(socket string) *wire {
	return &wire{
		bounds: bounds{connections: connections, spread: spread(), depth: 32, slow: 4 * time.Millisecond},
		dial: func(deadline time.Time) (net.Conn, error) {
			// It does not wait: there is room before the daemon, or the system refuses.
			return (&net.Dialer{Deadline: deadline}).Dial("unix", socket)
		},
	}
}

// do has c answered, once. Its error is that of the way to the daemon, of which
// c.unanswered says more, or context's if the time of c ends first. c must not be
// used any more if it was left.
func (w *wire) do(c *call) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer c.unwatch()
	if c.pipe = w.place(c, c.began); c.pipe == nil {
		w.waiting = append(w.waiting, c)
	}
	for !c.done {
		switch p := c.pipe; {
		case p != nil && !c.queued:
			w.join(p, c)
		case p != nil && len(p.out) > 0 && p.writer == nil:
			w.write(p, c, c.crowded)
		case p != nil && p.conn != nil && p.reader == nil:
			w.read(p, c)
		default:
			w.sleep(c)
		}
	}
	return c.err
}

// place finds a connection for c and keeps a place on it, or returns nil if none is
// to be had at this time.
func (w *wire) place(c *call, now time.Time) *pipe {
	busy, least := w.shared(c, now)
	c.crowded = busy+1 >= w.spread
	switch n := len(w.idle); {
	case least != nil && (busy >= w.spread || n == 0 && len(w.open) >= w.connections):
		if least.depth() >= w.depth {
			return nil
		}
		least.places++
		return least
	case n > 0:
		p := w.idle[n-1]
		w.idle = w.idle[:n-1]
		p.take(c)
		return p
	case len(w.open) < w.connections:
		p := newPipe()
		w.open = append(w.open, p)
		p.take(c)
		return p
	default:
		return nil
	}
}

// shared counts the connections that c could share, and returns the one with the
// fewest calls. One that answers slowly is not among them: c would wait for others.
func (w *wire) shared(c *call, now time.Time) (n int, least *pipe) {
	if c.alone {
		return 0, nil
	}
	for _, p := range w.open {
		if p.lane != c.lane || p.depth() == 0 || !p.shared || p.retired || p.late(now, w.slow) {
			continue
		}
		n++
		if least == nil || p.depth() < least.depth() {
			least = p
		}
	}
	return n, least
}

// admit gives what has come free to calls that wait. The requests of those that find a
// place on p, if it is not nil, are put there at once, and who reads from p writes
// them; the others are woken.
func (w *wire) admit(p *pipe, now time.Time) {
	var failed *call
	for i := 0; i < len(w.waiting); i++ {
		c := w.waiting[i]
		if failed != nil && failed.lane == c.lane && failed.alone == c.alone {
			continue
		}
		if c.pipe = w.place(c, now); c.pipe == nil {
			failed = c
			continue
		}
		w.waiting = slices.Delete(w.waiting, i, i+1)
		i--
		if c.pipe == p {
			p.enqueue(c)
		} else {
			c.wake()
		}
	}
}

// join puts c on the connection on which it has a place, or if that has come to its
// end finds another.
func (w *wire) join(p *pipe, c *call) {
	if !p.retired && !p.dead {
		p.enqueue(c)
		return
	}
	p.places--
	w.rest(p)
	if c.pipe = w.place(c, time.Now()); c.pipe == nil {
		w.waiting = append(w.waiting, c)
	}
}

// sleep waits until somebody wakes c, or its time ends.
func (w *wire) sleep(c *call) {
	c.waiting = true
	w.mu.Unlock()
	c.timer.Reset(time.Until(c.deadline))
	var over error
	select {
	case <-c.turn:
	case <-c.ctx.Done():
		over = c.ctx.Err()
	case <-c.timer.C:
		over = context.DeadlineExceeded
	}
	c.timer.Stop()
	w.mu.Lock()
	c.waiting = false
	if over != nil && !c.done {
		w.leave(c, over)
	}
}

// leave ends c without its answer. If that is on the way, whoever reads throws it
// away; the connection takes no further calls, and is closed when nobody waits on it.
func (w *wire) leave(c *call, err error) {
	c.done, c.err = true, err
	switch p := c.pipe; {
	case p == nil:
		w.waiting = slices.DeleteFunc(w.waiting, func(o *call) bool { return o == c })
	case !c.queued:
		p.places--
		w.rest(p)
	default:
		c.left = true
		p.live--
		p.retired = true
		w.rest(p)
	}
	w.admit(nil, time.Now())
}

// rest looks what is to be done with a connection from which a call is gone, or its
// reader: somebody else reads, or it idles, or it is closed. Whoever calls it admits
// then.
func (w *wire) rest(p *pipe) {
	switch {
	case p.dead:
	case p.live > 0:
		p.passReading()
	case p.places > 0:
	case p.retired || p.in.Buffered() > 0: // what nobody asked for is nobody's answer
		w.drop(p)
	default:
		w.idle = append(w.idle, p)
	}
}

// fail ends a connection that nobody reads. Its first calls, as many as lost says, have the
// error for their answer; those behind them are unanswered. Connections that idle are
// then probably closed, too: the daemon was restarted.
func (w *wire) fail(p *pipe, err error, lost int) {
	if len(p.calls) > lost {
		w.closeIdleLocked()
	}
	for i, c := range p.calls {
		if !c.left {
			c.err, c.unanswered = err, i >= lost
		}
		c.finish()
	}
	p.live = 0
	w.drop(p)
	w.admit(nil, time.Now())
}

// drop closes a connection. What is in its buffers may be secret.
func (w *wire) drop(p *pipe) {
	p.dead = true
	clear(p.out)
	in, _ := p.in.Peek(p.in.Buffered())
	clear(in)
	p.out, p.calls = nil, nil
	w.open = slices.DeleteFunc(w.open, func(o *pipe) bool { return o == p })
	if p.conn != nil {
		_ = p.conn.Close() // nobody waits for it
	}
}

// closeIdle closes the connections that no call uses.
func (w *wire) closeIdle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closeIdleLocked()
}

func (w *wire) closeIdleLocked() {
	for _, p := range w.idle {
		w.drop(p)
	}
	w.idle = nil
}
