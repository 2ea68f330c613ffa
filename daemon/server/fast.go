package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"signetd/daemon"
	"signetd/signer/supervise"
)

const (
	firstBuffer = 4 << 10 // bytes that a connection reads into at first
	// drainLinger is how long a connection stays open, closed for reading, while the server
	// drains.
	drainLinger = 50 * time.Millisecond
	// gatherResponses is how long a response waits for those to requests that came with
	// its own.
	gatherResponses = 5 * time.Millisecond
)

// A next says what to do with a connection after one step.
type next int

const (
	proceed      next = iota
	finish            // nothing more comes, or can be answered
	handOverConn      // to net/http
	timedOut          // the watchdog has answered, and closed the connection
)

// A fastPath serves connections without net/http. It has what its connections share.
type fastPath struct {
	handler  Handler
	limits   daemon.Limits
	watchdog *supervise.Watchdog
	draining *atomic.Bool
	log      *slog.Logger
}

// A fastConn reads the requests of one connection one after the other, has each answered
// on the connection's own goroutine, and sends the responses to those that came together
// by one write. See docs/decisions/0016.
type fastConn struct {
	*fastPath
	*conn
	in      []byte // read and not worked on; cleared behind us, since it may hold secrets
	started bool   // a request has come
	begun   bool   // the request that is read has begun, and its deadline is set
	readBy  time.Time
	path    string         // of the last request: most of a connection have the same
	request daemon.Request // the one that is worked on
}

// serve serves a connection until it ends, or until a request comes that is not a usual one
// (see [readHead]). Then it reports true, and net/http goes on with the connection and with
// what was read of the request.
func (p *fastPath) serve(c *conn) (rest []byte, handOver bool) {
	f := &fastConn{fastPath: p, conn: c, in: make([]byte, 0, firstBuffer)}
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("panic", "peer", c.peer, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			_ = c.Close()
		}
	}()

	n := proceed
	for n == proceed {
		n = f.step()
	}
	defer clear(f.in[:cap(f.in)])
	if n == timedOut {
		return nil, false // the watchdog has closed the connection
	}

	if err := c.queue.send(c); n == handOverConn && err == nil {
		return bytes.Clone(f.in), true
	}
	if p.draining.Load() {
		// The connection may have been idle, and closed for reading. A client that begins a
		// request on it now fails to write, so that it knows that nothing was read and can
		// ask elsewhere. If it saw the end of the connection first, it could not know.
		time.Sleep(drainLinger)
	}
	_ = c.Close() // nothing can be done about an error
	return nil, false
}

// step answers one request that has been read whole, or reads.
func (f *fastConn) step() next {
	h, result := readHead(f.in)
	switch {
	case result == unusual, int64(h.length) > f.limits.RequestBytes:
		return handOverConn
	case result == complete && len(f.in) >= h.size+h.length:
		return f.answer(h, nil)
	}

	need := len(f.in) + 1
	if result == complete {
		need = h.size + h.length
	}
	err := f.read(need)
	switch {
	case err == nil:
		return proceed
	case result == partial:
		return finish // without a whole head nothing has been asked for
	case errors.Is(err, os.ErrDeadlineExceeded):
		return f.answer(h, errSlowBody())
	default:
		return f.answer(h, errShortBody())
	}
}

// read sends the responses that are ready, and then reads more of a request, which will have
// at least need bytes.
func (f *fastConn) read(need int) error {
	if err := f.queue.send(f.conn); err != nil {
		return err
	}

	if len(f.in) == 0 {
		f.state.Store(int32(http.StateIdle))
		if cap(f.in) > keepBuffer { // a long request needed it
			f.in = make([]byte, 0, firstBuffer)
		}
	}
	wait := idleTimeout
	if len(f.in) > 0 || !f.started {
		wait = f.limits.Timeout
	}
	f.setReadBy(wait)

	f.grow(need)
	n, err := f.Read(f.in[len(f.in):cap(f.in)])
	if n == 0 {
		return err
	}
	f.state.Store(int32(http.StateActive))
	f.in = f.in[:len(f.in)+n]
	return nil
}

// setReadBy sets the read deadline, unless the present one is nearly the same, because
// setting it costs more than checking it. It is set once for a request that has
// begun: further bytes do not move it. The time of the first request begins with its
// connection.
func (f *fastConn) setReadBy(wait time.Duration) {
	if f.begun {
		return
	}

	now := time.Now()
	part := len(f.in) > 0
	if left := f.readBy.Sub(now); left > wait || left < wait*3/4 && (f.started || !part) {
		f.readBy = now.Add(wait)
		_ = f.SetReadDeadline(f.readBy) // a connection that is closed fails to read, too
	}
	f.begun = part
}

// grow makes room, by half at least, for need bytes in all. It does so little by little,
// because a peer that announces many bytes may send none.
func (f *fastConn) grow(need int) {
	if need = max(need, len(f.in)+1); need <= cap(f.in) {
		return
	}

	need = max(need, cap(f.in)*3/2) // a head does not say how long it will be
	in := append(make([]byte, 0, min(need, max(2*cap(f.in), firstBuffer))), f.in...)
	clear(f.in)
	f.in = in
}

// answer answers the request with head h, whose body is there unless bodyErr says why not.
func (f *fastConn) answer(h head, bodyErr error) next {
	f.started, f.begun = true, false
	if string(h.path) != f.path {
		f.path = string(h.path)
	}
	size := min(len(f.in), h.size+h.length)

	f.request = f.handler.Begin(f.peer)
	q := &f.request
	q.Method, q.Path, q.Body, q.BodyErr = h.method, f.path, f.in[h.size:size], bodyErr
	q.InFlight = &f.inflight
	q.Behind = (len(f.in) - size) / size

	var r daemon.Response
	if f.surplus {
		r, h.last = f.handler.Fail(q, errTooManyConnections()), true
	} else {
		ctx := supervise.NewContext(f.limits.Timeout)
		f.watchdog.Wake()
		r = f.handler.Answer(ctx, q)
		ctx.End(context.Canceled)
	}
	clear(q.Body)
	if r.TimedOut {
		return timedOut
	}

	f.advance(size)
	last := h.last || bodyErr != nil || f.drained()
	f.queue.add(&r, last)
	if last {
		return finish
	}
	if time.Since(f.queue.since) > gatherResponses && f.queue.send(f.conn) != nil {
		return finish
	}
	return proceed
}

// advance drops the first n bytes.
func (f *fastConn) advance(n int) {
	left := copy(f.in, f.in[n:])
	clear(f.in[left:])
	f.in = f.in[:left]
}

// drained reports, while the server drains, whether f has nothing more to answer. From then
// on the peer cannot send, and what it had sent before is read.
func (f *fastConn) drained() bool {
	if !f.draining.Load() {
		return false
	}
	_ = f.CloseRead() // or the peer is gone
	if len(f.in) > 0 {
		return false
	}

	f.grow(1)
	f.readBy = time.Now().Add(f.limits.Timeout) // that of the request before may be over
	_ = f.SetReadDeadline(f.readBy)
	n, _ := f.Read(f.in[:cap(f.in)]) // an end, or an error after which nothing can be read either
	f.in = f.in[:n]
	return n == 0
}

// maxHeader bounds the request line and the headers of a request, in bytes.
const maxHeader = 8 << 10

// A head is what the request line and the headers of a usual request say.
type head struct {
	method string
	path   []byte
	length int  // of the body in bytes
	last   bool // the peer sends nothing after it
	size   int  // of the head itself in bytes
}

// A parseResult is what readHead found.
type parseResult int

const (
	complete parseResult = iota // the head of a request that the fast path serves
	partial                     // the beginning of one
	unusual                     // a request for net/http
)

// maxFastBody bounds the bodies, in bytes, that the fast path reads. Longer ones are rare,
// and net/http takes memory for them only as they come in.
const maxFastBody = 64 << 10

var endOfHead = []byte("\r\n\r\n")

// readHead reads the head of a request (RFC 9112) if it is a usual one: GET, or POST with
// a Content-Length; a path of letters, digits and dashes; and no header that asks for
// anything but the answer. All else, right or wrong, is for net/http.
func readHead(in []byte) (head, parseResult) {
	end := bytes.Index(in, endOfHead)
	if end < 0 {
		// A head whose lines end in LF alone may be whole.
		if len(in) >= maxHeader || bytes.Count(in, []byte("\n")) > bytes.Count(in, []byte("\r\n")) {
			return head{}, unusual
		}
		return head{}, partial
	}

	line, lines, _ := bytes.Cut(in[:end+2], []byte("\r\n"))
	h := head{length: -1, size: end + len(endOfHead)}
	if end >= maxHeader || !h.readLine(line) {
		return h, unusual
	}

	host := false
	for len(lines) > 0 {
		line, lines, _ = bytes.Cut(lines, []byte("\r\n"))
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isToken(name) || !isText(value) {
			return h, unusual
		}

		if isHeader(name, "Host") {
			if host { // RFC 9112 section 3.2
				return h, unusual
			}
			host = true
		} else if !h.note(name, bytes.Trim(value, " \t")) {
			return h, unusual
		}
	}

	if h.length < 0 {
		h.length = 0
	}
	if !host || h.length > maxFastBody || h.method == http.MethodGet && h.length > 0 {
		return h, unusual
	}
	return h, complete
}

// readLine reads the request line.
func (h *head) readLine(line []byte) bool {
	method, rest, _ := bytes.Cut(line, []byte(" "))
	path, version, _ := bytes.Cut(rest, []byte(" "))
	switch string(method) {
	case http.MethodPost:
		h.method = http.MethodPost
	case http.MethodGet:
		h.method = http.MethodGet
	default:
		return false
	}

	h.path = path
	if len(path) == 0 || path[0] != '/' || string(version) != "HTTP/1.1" {
		return false
	}
	for _, b := range path {
		if b != '/' && b != '-' && b != '_' && !isAlphanumeric(b) {
			return false
		}
	}
	return true
}

// note reads a header, and reports false for one that asks for more than we do.
func (h *head) note(name, value []byte) bool {
	switch {
	case isHeader(name, "Content-Length"):
		if h.length >= 0 || len(value) == 0 || len(value) > 6 {
			return false
		}

		h.length = 0
		for _, b := range value {
			if b < '0' || b > '9' {
				return false
			}
			h.length = h.length*10 + int(b-'0')
		}
	case isHeader(name, "Connection"):
		closes := isHeader(value, "close")
		h.last = h.last || closes
		return closes || isHeader(value, "keep-alive")
	case isHeader(name, "Transfer-Encoding"), isHeader(name, "Expect"), isHeader(name, "Upgrade"), isHeader(name, "Trailer"):
		return false
	}
	return true
}

func isHeader(name []byte, want string) bool {
	return len(name) == len(want) && bytes.EqualFold(name, []byte(want))
}

func isAlphanumeric(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}

// isToken reports whether b is a header's name (RFC 9110 section 5.6.2) of the
// characters that names have in practice.
func isToken(b []byte) bool {
	for _, c := range b {
		if c != '-' && c != '_' && !isAlphanumeric(c) {
			return false
		}
	}
	return len(b) > 0
}

// isText reports whether b has no control characters (RFC 9110 section 5.5).
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
