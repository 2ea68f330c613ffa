package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"time"
)

// A pipelinedConn is a connection and the calls on it, whose answers come in the order of
// their requests. Its fields are guarded by ConnPool.mu but for those of the first two
// groups.
type pipelinedConn struct {
	// Owned by the call in reader, without the mutex.
	in        *bufio.Reader
	readUntil time.Time // the read deadline that conn has
	partial   bool      // part of an answer was taken out of in

	// Owned by the call in writer, without the mutex.
	writeUntil time.Time // the write deadline that conn has

	conn   net.Conn // set once, by the first writer; then read by reader and written by writer alone
	reader *Call    // the call that reads, or nil
	writer *Call    // the call that writes, or nil

	out      []byte // requests that no call writes yet
	spare    []byte // an empty buffer that takes the place of out while that is written
	writeErr error  // why writing has failed

	calls    []*Call // in the order of their requests; the reader alone removes calls
	live     int     // how many of calls are not abandoned
	reserved int     // calls that have room here and are not in calls yet

	key    RouteKey // what the calls have in common
	shared bool     // calls of key may join

	// since is when the oldest of calls was sent, or when the answer before its own came.
	since time.Time
	// average is the moving average of the time from since to the answer.
	average time.Duration

	retired bool // it takes no further calls
	dead    bool // it is closed
}

// readBuffer is the size in bytes of a buffer that holds a few tens of answers.
const readBuffer = 16 << 10

func newPipelinedConn() *pipelinedConn {
	conn := &pipelinedConn{}
	conn.in = bufio.NewReaderSize(conn, readBuffer)
	return conn
}

func (conn *pipelinedConn) depth() int { return len(conn.calls) + conn.reserved }

// isSlow reports whether conn takes longer than limit to answer, on average or right now.
func (conn *pipelinedConn) isSlow(now time.Time, limit time.Duration) bool {
	return conn.average > limit || len(conn.calls) > 0 && now.Sub(conn.since) > limit
}

// assign reserves room for c on a connection that has no calls, for c and calls like it.
func (conn *pipelinedConn) assign(c *Call) {
	if conn.key != c.key {
		conn.average = 0
	}
	conn.key, conn.shared, conn.reserved = c.key, !c.alone, 1
}

// track puts c, which has reserved room, behind the other calls.
func (conn *pipelinedConn) track(c *Call) {
	if len(conn.calls) == 0 {
		conn.since = time.Now()
	}
	conn.reserved--
	conn.calls = append(conn.calls, c)
	conn.live++
	c.tracked = true

	// The buffer grows here and not in append, which would leave a copy of the requests
	// that nothing clears.
	out := conn.out
	if need := len(out) + headRoom + len(c.key.Path) + c.Request.Len(); need > cap(out) {
		out = append(make([]byte, 0, max(need, 2*cap(out))), out...)
		clear(conn.out)
	}
	conn.out = append(c.appendHead(out), c.Request.Bytes()...)
}

// passReading wakes a call to read if none does: the last that waits, which then reads
// the answers of all calls before it, too.
func (conn *pipelinedConn) passReading() {
	if conn.reader != nil || conn.conn == nil {
		return
	}
	for _, c := range slices.Backward(conn.calls) {
		if c.waiting {
			c.wake()
			return
		}
	}
}

// write makes c the writer of conn until nothing is left to write. With gather, it first
// lets the goroutines run that were woken together with c: their requests then go out
// with the same system call. The caller holds p.mu, which is released while c writes.
func (p *ConnPool) write(conn *pipelinedConn, c *Call, gather bool) {
	conn.writer = c
	defer func() { conn.writer = nil }()

	if conn.conn == nil && !p.connect(conn, c) {
		return
	}
	c.watch(conn)
	if gather {
		p.mu.Unlock()
		runtime.Gosched()
		p.mu.Lock()
	}

	for len(conn.out) > 0 {
		out := conn.out
		conn.out, conn.spare = conn.spare, nil
		p.mu.Unlock()
		err := conn.send(c, out)
		clear(out)
		p.mu.Lock()

		if cap(out) <= maxKept {
			conn.spare = out[:0]
		}
		if err != nil {
			p.writeFailed(conn, c, err)
			return
		}
	}
}

// connect makes the connection. If it cannot be made, all calls that wait for it fail
// with the same error, unless it was only the time of c that ended.
func (p *ConnPool) connect(conn *pipelinedConn, c *Call) bool {
	p.mu.Unlock()
	netConn, err := p.dial(c.deadline)
	p.mu.Lock()
	if err == nil {
		conn.conn = netConn
		return true
	}

	lost := len(conn.calls)
	if timeUp := c.timeUp(); timeUp != nil {
		p.abandon(c, timeUp)
		lost = 0
	}
	if !conn.dead {
		p.fail(conn, err, lost)
	}
	return false
}

// errTimeUp means that the time of the call that reads or writes has ended.
var errTimeUp = errors.New("the time of this call is over")

// send writes out before the time of c, the writer, ends.
func (conn *pipelinedConn) send(c *Call, out []byte) error {
	for len(out) > 0 {
		if conn.writeUntil.IsZero() || conn.writeUntil.After(c.deadline) {
			conn.writeUntil = c.deadline
			if err := conn.conn.SetWriteDeadline(c.deadline); err != nil {
				return err
			}
		}

		// The watch may have run before the deadline was set, and have been overwritten.
		if c.ctx.Err() != nil {
			return errTimeUp
		}
		n, err := conn.conn.Write(out)
		out = out[n:]
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case c.timeUp() != nil:
			return errTimeUp
		default: // another call's watch has set the deadline
			conn.writeUntil = time.Time{}
		}
	}
	return nil
}

// writeFailed ends conn, at once or when the reader has read what the daemon said before:
// answers that are on their way count more than that the daemon closed the connection.
func (p *ConnPool) writeFailed(conn *pipelinedConn, c *Call, err error) {
	conn.retired, conn.writeErr = true, err
	clear(conn.out)
	conn.out = conn.out[:0]
	if !errors.Is(err, errTimeUp) {
		return
	}

	// Part of a request may have been written, so that no other can follow.
	if !c.done {
		p.abandon(c, c.timeUp())
	}
	switch {
	case conn.dead:
	case conn.reader != nil:
		// The reader alone may touch the calls. Its read fails now.
		_ = conn.conn.Close()
	default:
		p.fail(conn, io.ErrUnexpectedEOF, 0)
	}
}

// read makes c the reader of conn until c has its answer. Then another call reads. The
// caller holds p.mu, which is released while c reads.
func (p *ConnPool) read(conn *pipelinedConn, c *Call) {
	conn.reader = c
	c.watch(conn)

	for !c.done {
		calls := conn.calls
		p.mu.Unlock()
		n, err := conn.readAnswers(calls)
		if n == 0 && err == nil {
			_, err = conn.in.Peek(conn.in.Buffered() + 1) // wait for more bytes
		}
		p.mu.Lock()

		if n > 0 {
			p.answered(conn, n)
		}
		if err != nil {
			conn.reader = nil
			p.readFailed(conn, c, err)
			return
		}
		if len(conn.out) > 0 && conn.writer == nil {
			p.write(conn, c, false)
		}
	}

	conn.reader = nil
	p.untracked(conn)
	p.dispatch(conn, conn.since)
	if len(conn.out) > 0 && conn.writer == nil {
		p.write(conn, c, false)
	}
	conn.passReading()
}

// answered ends the first n calls of conn. The caller holds p.mu and is the reader.
func (p *ConnPool) answered(conn *pipelinedConn, n int) {
	now := time.Now()
	conn.average += (now.Sub(conn.since)/time.Duration(n) - conn.average) / 8
	conn.since = now

	for _, c := range conn.calls[:n] {
		if !c.abandoned {
			conn.live--
		}
		c.finish()
	}
	conn.calls = slices.Delete(conn.calls, 0, n)
	if len(p.waiting) > 0 && conn.live > 0 && !conn.retired {
		p.dispatch(conn, now)
	}
}

// readFailed ends conn after an error of its reader c, if the error concerns more than
// the time of c. The caller holds p.mu.
func (p *ConnPool) readFailed(conn *pipelinedConn, c *Call, err error) {
	switch {
	case errors.Is(err, errTimeUp):
		p.abandon(c, c.timeUp())
		if conn.partial && !conn.dead { // the rest of this answer cannot be told from the next
			p.fail(conn, io.ErrUnexpectedEOF, 0)
		}
	case errors.Is(err, errLast):
		p.fail(conn, io.EOF, 0)
	case conn.partial || conn.in.Buffered() > 0: // in the middle of the first call's answer
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		p.fail(conn, err, 1)
	default:
		p.fail(conn, errors.Join(conn.writeErr, err), 0)
	}
}

// Read implements [io.Reader] for in: it reads before the time of the reader ends.
func (conn *pipelinedConn) Read(b []byte) (int, error) {
	c := conn.reader
	for {
		if conn.readUntil.IsZero() || conn.readUntil.After(c.deadline) {
			conn.readUntil = c.deadline
			if err := conn.conn.SetReadDeadline(c.deadline); err != nil {
				return 0, err
			}
		}

		// The watch may have run before the deadline was set, and have been overwritten.
		if c.ctx.Err() != nil {
			return 0, errTimeUp
		}
		n, err := conn.conn.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		conn.readUntil = time.Time{} // another call's watch may have set the deadline
		if c.timeUp() != nil {
			return 0, errTimeUp
		}
	}
}
