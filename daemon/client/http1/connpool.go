// Package http1 is the client's side of HTTP/1.1 (RFC 9112) over a Unix socket: as much
// of it as signetd and its client need. [ConnPool.Do] sends a [Call] and waits for its
// answer.
//
// It takes a small part of the processor time that net/http's Transport takes for the
// same: BenchmarkClient of package client compares the two. There are two reasons.
//
// No goroutine belongs to a connection, where a Transport starts two. A call that finds
// no other call writing writes all requests that have gathered, and one that finds no
// other call reading reads all answers. So a call that is alone makes one write and one
// read, and hands nothing over to another goroutine.
//
// Where many calls are in flight they share connections: their requests are written one
// behind the other, and the daemon answers in the same order (pipelining). RFC 9112
// section 9.3.2 allows that for idempotent methods, or where the client can recover when
// a connection ends in the middle. The daemon's POSTs are such: to sign or to open
// leaves nothing behind but an audit record, so a request that was not answered is sent
// once more, alone and on another connection, as that section asks for.
package http1

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	maxConnections = 64 // further calls wait until a connection is free

	// maxShared is the length in bytes of the longest request body that shares a
	// connection. For a longer one the cost is in its bytes and not in system calls.
	maxShared = 16 << 10
)

// ErrClosed means that the pool was closed before the call began.
var ErrClosed = errors.New("the connection pool is closed")

// bounds say how calls are spread over connections.
type bounds struct {
	connections int           // the most that are open
	spread      int           // how many connections the calls of one route use before they share
	depth       int           // the most calls on one connection
	slow        time.Duration // a connection whose answers take longer takes no second call
}

// A ConnPool keeps the connections to one daemon, at most 64. It is safe for concurrent
// use.
type ConnPool struct {
	bounds                                            // set before use, not changed again
	dial   func(deadline time.Time) (net.Conn, error) // set before use, not changed again

	// mu guards the fields below, and those of [Call] and pipelinedConn that say so.
	mu       sync.Mutex
	open     []*pipelinedConn // all that are not dead
	idle     []*pipelinedConn // of open, those without a call: the last was used last
	waiting  []*Call          // calls without a connection, in the order in which they came
	closed   bool
	inFlight sync.WaitGroup // Add is called under mu, and not once closed is set
}

// NewConnPool returns a pool of connections to a Unix socket. It makes none yet.
func NewConnPool(socket string) *ConnPool {
	return &ConnPool{
		bounds: bounds{connections: maxConnections, spread: spread(), depth: 32, slow: 4 * time.Millisecond},
		dial: func(deadline time.Time) (net.Conn, error) {
			// Connecting to a Unix socket does not wait: the daemon's queue has room, or
			// the kernel refuses with EAGAIN at once.
			return (&net.Dialer{Deadline: deadline}).Dial("unix", socket)
		},
	}
}

// spread is twice the number of requests that the daemon, which runs on this host, can
// work on at once, and at least 8. With more connections each answer comes alone and
// costs a system call of its own. With fewer, a call waits behind many others while the
// token works.
func spread() int { return min(max(8, 2*runtime.GOMAXPROCS(0)), maxConnections/2) }

// Do sends c and waits until its answer is in c.Answer, the deadline passes or ctx ends.
//
// An error is that of ctx, context.DeadlineExceeded, [ErrClosed], [ErrTooLong], or says
// why no whole answer came; a [net.OpError] with Op "dial" says that no connection could
// be made. After an error c.Answer holds nothing of use.
func (p *ConnPool) Do(ctx context.Context, c *Call, deadline time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p.inFlight.Add(1)
	defer p.inFlight.Done()

	c.ctx, c.deadline, c.began = ctx, deadline, time.Now()
	c.alone = c.key.Key == "" && c.key.KID == "" || c.Request.Len() > maxShared
	err := p.try(c)
	if err != nil && c.unanswered && ctx.Err() == nil {
		// The connection ended before a byte of the answer came: the daemon was restarted, or
		// closed a connection that was idle. To sign or to open twice does no harm. RFC 9112
		// section 9.3.2 wants the second attempt not to be pipelined.
		c.again()
		err = p.try(c)
	}

	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // the connection may have failed for that reason
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return context.DeadlineExceeded
	default:
		return err
	}
}

// try sends c once. The caller holds p.mu, which is released while c waits for anything.
func (p *ConnPool) try(c *Call) error {
	defer c.unwatch()
	if c.conn = p.reserve(c, c.began); c.conn == nil {
		p.waiting = append(p.waiting, c)
	}

	for !c.done {
		switch conn := c.conn; {
		case conn != nil && !c.tracked:
			p.track(conn, c)
		case conn != nil && len(conn.out) > 0 && conn.writer == nil:
			p.write(conn, c, c.crowded)
		case conn != nil && conn.conn != nil && conn.reader == nil:
			p.read(conn, c)
		default:
			p.wait(c)
		}
	}
	return c.err
}

// reserve finds a connection for c and reserves room on it. It returns nil if c has to
// wait. The caller holds p.mu.
func (p *ConnPool) reserve(c *Call, now time.Time) *pipelinedConn {
	busy, least := p.sharable(c, now)
	c.crowded = busy+1 >= p.spread

	switch n := len(p.idle); {
	case least != nil && (busy >= p.spread || n == 0 && len(p.open) >= p.connections):
		if least.depth() >= p.depth {
			return nil
		}
		least.reserved++
		return least
	case n > 0:
		conn := p.idle[n-1]
		p.idle = p.idle[:n-1]
		conn.assign(c)
		return conn
	case len(p.open) < p.connections:
		conn := newPipelinedConn()
		p.open = append(p.open, conn)
		conn.assign(c)
		return conn
	default:
		return nil
	}
}

// sharable counts the connections that c could share, and returns the one with the
// fewest calls. A connection that answers slowly does not count: its backend is far
// away, and calls for it run side by side rather than one behind the other.
func (p *ConnPool) sharable(c *Call, now time.Time) (n int, least *pipelinedConn) {
	if c.alone {
		return 0, nil
	}
	for _, conn := range p.open {
		if conn.key != c.key || conn.depth() == 0 || !conn.shared || conn.retired || conn.isSlow(now, p.slow) {
			continue
		}
		n++
		if least == nil || conn.depth() < least.depth() {
			least = conn
		}
	}
	return n, least
}

// dispatch gives room that has become free to calls that wait. Requests that find room
// on reading, a connection whose reader is the caller, are put on it at once, since the
// reader writes them; other calls are woken to do so themselves. reading may be nil. The
// caller holds p.mu.
func (p *ConnPool) dispatch(reading *pipelinedConn, now time.Time) {
	var failed *Call
	for i := 0; i < len(p.waiting); i++ {
		c := p.waiting[i]
		if failed != nil && failed.key == c.key && failed.alone == c.alone {
			continue // there is no room for this one either
		}
		if c.conn = p.reserve(c, now); c.conn == nil {
			failed = c
			continue
		}

		p.waiting = slices.Delete(p.waiting, i, i+1)
		i--
		if c.conn == reading {
			reading.track(c)
		} else {
			c.wake()
		}
	}
}

// track puts c on the connection on which it has reserved room. If that connection has
// ended meanwhile, c looks for another. The caller holds p.mu.
func (p *ConnPool) track(conn *pipelinedConn, c *Call) {
	if !conn.retired && !conn.dead {
		conn.track(c)
		return
	}

	conn.reserved--
	p.untracked(conn)
	if c.conn = p.reserve(c, time.Now()); c.conn == nil {
		p.waiting = append(p.waiting, c)
	}
}

// wait waits until another goroutine wakes c, or the time of c ends. The caller holds
// p.mu, which is released meanwhile.
func (p *ConnPool) wait(c *Call) {
	c.waiting = true
	p.mu.Unlock()

	c.timer.Reset(time.Until(c.deadline))
	var timeUp error
	select {
	case <-c.woken:
	case <-c.ctx.Done():
		timeUp = c.ctx.Err()
	case <-c.timer.C:
		timeUp = context.DeadlineExceeded
	}
	c.timer.Stop()

	p.mu.Lock()
	c.waiting = false
	if timeUp != nil && !c.done {
		p.abandon(c, timeUp)
	}
}

// abandon ends c without its answer. If the request was sent, the reader discards the
// answer when it comes; the connection takes no further calls and is closed when no call
// waits on it any more. The caller holds p.mu.
func (p *ConnPool) abandon(c *Call, err error) {
	c.done, c.err = true, err
	switch conn := c.conn; {
	case conn == nil:
		p.waiting = slices.DeleteFunc(p.waiting, func(other *Call) bool { return other == c })
	case !c.tracked:
		conn.reserved--
		p.untracked(conn)
	default:
		c.abandoned = true
		conn.live--
		conn.retired = true
		p.untracked(conn)
	}
	p.dispatch(nil, time.Now())
}

// untracked decides what becomes of a connection after a call, or its reader, has left
// it: another call reads, or the connection becomes idle, or it is closed. The caller
// holds p.mu, and then lets other calls use the room that is free: see dispatch.
func (p *ConnPool) untracked(conn *pipelinedConn) {
	switch {
	case conn.dead:
	case conn.live > 0:
		conn.passReading()
	case conn.reserved > 0:
	case conn.retired || conn.in.Buffered() > 0:
		// Bytes that no request asked for must never become the answer of the next one.
		p.close(conn)
	default:
		p.idle = append(p.idle, conn)
	}
}

// fail ends a connection that no call reads. The first calls on it, as many as lost says,
// get err as their result. Those behind them are unanswered and may be sent again. The
// caller holds p.mu.
func (p *ConnPool) fail(conn *pipelinedConn, err error, lost int) {
	if len(conn.calls) > lost {
		p.closeIdle() // the daemon was probably restarted, and these are closed too
	}
	for i, c := range conn.calls {
		if !c.abandoned {
			c.err, c.unanswered = err, i >= lost
		}
		c.finish()
	}
	conn.live = 0
	p.close(conn)
	p.dispatch(nil, time.Now())
}

// close closes a connection and clears its buffers, which may hold secrets. The caller
// holds p.mu, and no call reads from conn.
func (p *ConnPool) close(conn *pipelinedConn) {
	conn.dead = true
	clear(conn.out)
	in, _ := conn.in.Peek(conn.in.Buffered())
	clear(in)
	conn.out, conn.calls = nil, nil
	p.open = slices.DeleteFunc(p.open, func(other *pipelinedConn) bool { return other == conn })
	if conn.conn != nil {
		_ = conn.conn.Close() // no call waits for anything from it
	}
}

// Close waits for the calls in flight and closes all connections. Later calls get
// [ErrClosed].
func (p *ConnPool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()

	p.inFlight.Wait()

	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeIdle()
}

// closeIdle closes the connections that no call uses. The caller holds p.mu.
func (p *ConnPool) closeIdle() {
	for _, conn := range p.idle {
		p.close(conn)
	}
	p.idle = nil
}
