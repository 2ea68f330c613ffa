package client

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

// A pipe is a connection and the calls on it, whose answers come in the order of
// their requests. The mutex of the wire guards it, except that conn is written to
// by writer alone and read from, with in, by reader alone, without the mutex.
type pipe struct {
	conn   net.Conn // nil until the first writer has made it
	in     *bufio.Reader
	out    []byte // requests that nobody writes yet
	spare  []byte // for out, while what was in it is written
	writer *call
	reader *call
	// readUntil and writeUntil are the deadlines that conn has, as far as reader and
	// writer know.
	readUntil, writeUntil time.Time
	writeErr              error
	begun                 bool // part of an answer was taken out of in

	calls  []*call
	live   int // of calls, those that somebody waits for
	places int // kept for calls that are not in calls yet

	lane    lane
	shared  bool          // by calls of lane
	since   time.Time     // the first of calls is the first
	average time.Duration // that a call is the first before its answer comes

	retired bool // it takes no further calls
	dead    bool // it is closed
}

// readBuffer holds the answers to a few tens of requests.
const readBuffer = 16 << 10

func newPipe() *pipe {
	p := &pipe{}
	p.in = bufio.NewReaderSize(p, readBuffer)
	return p
}

func (p *pipe) depth() int { return len(p.calls) + p.places }

// late reports whether p takes longer than slow to answer, or does so now.
func (p *pipe) late(now time.Time, slow time.Duration) bool {
	return p.average > slow || len(p.calls) > 0 && now.Sub(p.since) > slow
}

// take gives p, which has no calls, to c and those like it.
func (p *pipe) take(c *call) {
	if p.lane != c.lane {
		p.average = 0
	}
	p.lane, p.shared, p.places = c.lane, !c.alone, 1
}

// enqueue puts c, which has a place, at the end of p.
func (p *pipe) enqueue(c *call) {
	if len(p.calls) == 0 {
		p.since = time.Now()
	}
	p.places--
	p.calls = append(p.calls, c)
	p.live++
	before := p.out
	if p.out = append(before, c.request...); cap(p.out) != cap(before) {
		clear(before)
	}
	c.queued = true
}

// passReading wakes somebody to read if nobody does: the last, who then reads the
// answers of all others, too.
func (p *pipe) passReading() {
	if p.reader != nil || p.conn == nil {
		return
	}
	for _, c := range slices.Backward(p.calls) {
		if c.waiting {
			c.wake()
			return
		}
	}
}

// write writes what is to be written until there is no more. To gather, it lets those
// run first that were woken together with c: what they want goes with it.
func (w *wire) write(p *pipe, c *call, gather bool) {
	p.writer = c
	defer func() { p.writer = nil }()
	if p.conn == nil && !w.connect(p, c) {
		return
	}
	c.watch(p)
	if gather {
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
	}
	for len(p.out) > 0 {
		out := p.out
		p.out, p.spare = p.spare, nil
		w.mu.Unlock()
		err := p.send(c, out)
		clear(out)
		w.mu.Lock()
		if cap(out) <= maxKept {
			p.spare = out[:0]
		}
		if err != nil {
			w.writeFailed(p, c, err)
			return
		}
	}
}

// connect makes the connection of p. If it cannot be made, that is the answer to
// all who came for it, except that the time of c is not theirs.
func (w *wire) connect(p *pipe, c *call) bool {
	w.mu.Unlock()
	conn, err := w.dial(c.deadline)
	w.mu.Lock()
	if err == nil {
		p.conn = conn
		return true
	}
	lost := len(p.calls)
	if over := c.over(); over != nil {
		w.leave(c, over)
		lost = 0
	}
	if !p.dead {
		w.fail(p, err, lost)
	}
	return false
}

// send writes out before the time of c ends.
func (p *pipe) send(c *call, out []byte) error {
	for len(out) > 0 {
		if p.writeUntil.IsZero() || p.writeUntil.After(c.deadline) {
			p.writeUntil = c.deadline
			if err := p.conn.SetWriteDeadline(c.deadline); err != nil {
				return err
			}
		}
		if c.ctx.Err() != nil {
			return errOver
		}
		n, err := p.conn.Write(out)
		out = out[n:]
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case c.over() != nil:
			return errOver
		default: // the time of another has ended
			p.writeUntil = time.Time{}
		}
	}
	return nil
}

// writeFailed ends p, now or when what the daemon said before has been read: that
// counts more than that it closed.
func (w *wire) writeFailed(p *pipe, c *call, err error) {
	p.retired, p.writeErr = true, err
	clear(p.out)
	p.out = p.out[:0]
	if !errors.Is(err, errOver) {
		return
	}
	if !c.done {
		w.leave(c, c.over())
	}
	switch { // half a request was written, so nothing can follow
	case p.dead:
	case p.reader != nil: // who alone touches the calls; it fails
		_ = p.conn.Close()
	default:
		w.fail(p, io.ErrUnexpectedEOF, 0)
	}
}

// errOver means that the time of the call that reads or writes has ended.
var errOver = errors.New("the time of this call is over")

// read reads answers until c has its own. Then others read.
func (w *wire) read(p *pipe, c *call) {
	p.reader = c
	c.watch(p)
	for !c.done {
		calls := p.calls
		w.mu.Unlock()
		n, err := p.answers(calls)
		if n == 0 && err == nil {
			_, err = p.in.Peek(p.in.Buffered() + 1)
		}
		w.mu.Lock()
		if n > 0 {
			w.answered(p, n)
		}
		if err != nil {
			p.reader = nil
			w.readFailed(p, c, err)
			return
		}
		if len(p.out) > 0 && p.writer == nil {
			w.write(p, c, false)
		}
	}
	p.reader = nil
	w.rest(p)
	w.admit(p, p.since)
	if len(p.out) > 0 && p.writer == nil {
		w.write(p, c, false)
	}
	p.passReading()
}

// answered ends the first n calls of p.
func (w *wire) answered(p *pipe, n int) {
	now := time.Now()
	p.average += (now.Sub(p.since)/time.Duration(n) - p.average) / 8
	p.since = now
	for _, c := range p.calls[:n] {
		if !c.left {
			p.live--
		}
		c.finish()
	}
	p.calls = slices.Delete(p.calls, 0, n)
	if len(w.waiting) > 0 && p.live > 0 && !p.retired {
		w.admit(p, now)
	}
}

// readFailed says what an error of reading means to whom.
func (w *wire) readFailed(p *pipe, c *call, err error) {
	switch {
	case errors.Is(err, errOver):
		w.leave(c, c.over())
		if p.begun && !p.dead { // the rest of an answer cannot be told from the next
			w.fail(p, io.ErrUnexpectedEOF, 0)
		}
	case errors.Is(err, errLast):
		w.fail(p, io.EOF, 0)
	case p.begun || p.in.Buffered() > 0:
		w.fail(p, whole(err), 1)
	default:
		w.fail(p, errors.Join(p.writeErr, err), 0)
	}
}

// Read implements [io.Reader] for in, before the time of reader ends.
func (p *pipe) Read(b []byte) (int, error) {
	c := p.reader
	for {
		if p.readUntil.IsZero() || p.readUntil.After(c.deadline) {
			p.readUntil = c.deadline
			if err := p.conn.SetReadDeadline(c.deadline); err != nil {
				return 0, err
			}
		}
		if c.ctx.Err() != nil { // it may have ended before the deadline was set
			return 0, errOver
		}
		n, err := p.conn.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if p.readUntil = (time.Time{}); c.over() != nil {
			return 0, errOver
		}
	}
}
