package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"signetd/signer"
	"signetd/signer/supervise"
)

const (
	firstBuffer = 4 << 10 // bytes that a connection reads into at first
	keepBuffer  = 8 << 10 // bytes of a buffer that a connection keeps
	// gather is how long answers wait for others to requests that came with theirs.
	gather = 5 * time.Millisecond
)

// An ending is how the work on a connection's goroutine ends.
type ending int

const (
	goOn      ending = iota
	done             // nothing more comes, or can be answered
	handOver         // to net/http
	abandoned        // somebody else has answered, and closed the connection
)

// A lean reads the requests of one connection, one after the other, has each worked on
// by its own goroutine, and sends the answers of those that came together by one
// write. See docs/decisions/0016.
type lean struct {
	*conn
	in      []byte // read and not worked on; cleared behind us, for it may hold secrets
	started bool   // a request has come
	begun   bool   // the request that is read has begun, and its deadline is set
	readBy  time.Time
	q       request
}

// serveConn serves a connection until it ends. Requests that are not plain (see
// [readHead]) are for net/http, and so are those that come after one on its connection.
func (s *Server) serveConn(c *conn) {
	l := &lean{conn: c, in: make([]byte, 0, firstBuffer)}
	c.answers = &answers{}
	defer func() {
		c.expect(0)
		if p := recover(); p != nil {
			s.log.Error("panic", "peer", c.peer, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			_ = c.Close()
		}
	}()
	how := goOn
	for how == goOn {
		how = l.step()
	}
	if how == abandoned {
		clear(l.in[:cap(l.in)])
		return
	}
	if err := c.answers.send(c); how == handOver && err == nil {
		c.rest = bytes.Clone(l.in)
		clear(l.in)
		s.others.take(c)
		return
	}
	clear(l.in[:cap(l.in)])
	_ = c.Close() // there is nothing to be done about an error
}

// step answers one request that is there, or reads.
func (l *lean) step() ending {
	h, found := readHead(l.in)
	switch {
	case found == other, int64(h.length) > l.server.limits.RequestBytes:
		return handOver
	case found == plain && len(l.in) >= h.size+h.length:
		return l.serve(h, nil)
	}
	need := len(l.in) + 1
	if found == plain {
		need = h.size + h.length
	}
	err := l.read(need)
	switch {
	case err == nil:
		return goOn
	case found == partial:
		return done // as far as we know nobody asked for anything
	case errors.Is(err, os.ErrDeadlineExceeded):
		return l.serve(h, errSlow())
	default:
		return l.serve(h, fmt.Errorf("%w: the body ends early", signer.ErrInvalid))
	}
}

// read sends the answers that are ready, and reads some of a request that will have
// need bytes at least.
func (l *lean) read(need int) error {
	if err := l.answers.send(l.conn); err != nil {
		return err
	}
	l.expect(0)
	wait := idleTimeout
	if len(l.in) == 0 {
		l.state.Store(int32(http.StateIdle))
		l.shrink()
	}
	if len(l.in) > 0 || !l.started {
		wait = l.server.limits.Timeout
	}
	l.setReadBy(wait)
	l.grow(need)
	n, err := l.UnixConn.Read(l.in[len(l.in):cap(l.in)])
	if n == 0 {
		return err
	}
	l.state.Store(int32(http.StateActive))
	l.in = l.in[:len(l.in)+n]
	return nil
}

// expect tells the service how many requests are behind the one that is worked on.
func (c *conn) expect(n int64) {
	if n != c.behind.Load() {
		c.server.service.coming.Add(n - c.behind.Swap(n))
	}
}

// setReadBy sets the read deadline, unless it is about right: it costs more to set
// than to look at. A request that has begun has it set once, and by no further bytes put
// off; the first of a connection has what is left since that began.
func (l *lean) setReadBy(wait time.Duration) {
	if l.begun {
		return
	}
	now := time.Now()
	part := len(l.in) > 0
	if left := l.readBy.Sub(now); left > wait || left < wait*3/4 && (l.started || !part) {
		l.readBy = now.Add(wait)
		_ = l.SetReadDeadline(l.readBy) // a connection that is closed fails to read, too
	}
	l.begun = part
}

// grow makes room, by half at least, for need bytes in all. It does so little by little:
// a peer that announces many may send none.
func (l *lean) grow(need int) {
	if need = max(need, len(l.in)+1); need <= cap(l.in) {
		return
	}
	need = max(need, cap(l.in)*3/2) // a head does not say how long it will be
	in := append(make([]byte, 0, min(need, max(2*cap(l.in), firstBuffer))), l.in...)
	clear(l.in)
	l.in = in
}

// shrink lets go of a buffer that a long request needed.
func (l *lean) shrink() {
	if cap(l.in) > keepBuffer {
		l.in = make([]byte, 0, firstBuffer)
	}
}

// serve answers the request with head h whose body is there, or could not be read.
func (l *lean) serve(h head, bodyErr error) ending {
	l.started, l.begun = true, false
	s := l.server
	sent := l.answers.begin(NewRequest(l.peer))
	l.q = request{Request: sent.request, method: h.method, path: pathOf(h.path), bodyErr: bodyErr}
	l.q.watch = &l.watch
	size := min(len(l.in), h.size+h.length)
	l.q.body = l.in[h.size:size]
	l.expect(int64(len(l.in)-size) / int64(size))
	var a response
	if l.surplus {
		a, h.last = fail(&l.q, errSurplus()), true
	} else {
		ctx := supervise.NewContext(s.limits.Timeout)
		s.watchCalls()
		a = s.answer(ctx, &l.q)
		ctx.End(context.Canceled)
	}
	clear(l.q.body)
	if a.abandoned {
		return abandoned
	}
	l.advance(size)
	last := h.last || bodyErr != nil || l.drained()
	l.answers.add(a, last)
	if last {
		return done
	}
	if time.Since(l.answers.since) > gather && l.answers.send(l.conn) != nil {
		return done
	}
	return goOn
}

// advance drops the first n bytes.
func (l *lean) advance(n int) {
	left := copy(l.in, l.in[n:])
	clear(l.in[left:])
	l.in = l.in[:left]
}

// pathOf is path as a string: the one of the routes, if it is one.
func pathOf(path []byte) string {
	if rt, ok := routes[string(path)]; ok {
		return rt.path
	}
	return string(path)
}

// drained reports, while the server drains, whether l has nothing more to answer. From
// then on the peer cannot send, and what it had sent before is read.
func (l *lean) drained() bool {
	if !l.server.draining.Load() {
		return false
	}
	_ = l.CloseRead() // or the peer is gone
	if len(l.in) > 0 {
		return false
	}
	l.grow(1)
	l.readBy = time.Now().Add(l.server.limits.Timeout) // that of the request before may be over
	_ = l.SetReadDeadline(l.readBy)
	n, _ := l.UnixConn.Read(l.in[:cap(l.in)]) // an end, or what else keeps more from being read
	l.in = l.in[:n]
	return n == 0
}
