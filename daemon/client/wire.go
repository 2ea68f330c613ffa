package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"strconv"
	"sync"
	"time"
)

// A wire is the connections to one daemon, and HTTP/1.1 (RFC 9112) over them: as
// much of it as a daemon and its client need on a Unix socket. net/http's Transport
// takes two goroutines and three times the processor for the same.
type wire struct {
	socket string
	slots  chan struct{} // holds one for each connection in use

	mu   sync.Mutex
	idle []*wireConn // the last is the one that was used last
}

// A wireConn is a connection that one call uses at a time.
type wireConn struct {
	net.Conn
	in  *bufio.Reader
	out []byte
}

// An answer is the whole of what the daemon answered.
type answer struct {
	status     int
	retryAfter string
	body       []byte
}

// errAnswer means that what came is no HTTP.
var errAnswer = errors.New("not an HTTP/1.1 answer")

// errTooLong means that the daemon answers more than it ever has to say.
var errTooLong = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)

func newWire(socket string) *wire {
	return &wire{socket: socket, slots: make(chan struct{}, connections)}
}

// roundTrip sends a request, by POST or for a nil body by GET, and reads the
// answer, all before deadline and the end of ctx. unanswered reports that the
// connection was closed without a byte of an answer: the daemon was restarted while
// the connection idled, or stopped before it read the request.
func (w *wire) roundTrip(ctx context.Context, deadline time.Time, path string, body []byte) (a *answer, unanswered bool, err error) {
	if err := w.wait(ctx, deadline); err != nil {
		return nil, false, err
	}
	defer func() { <-w.slots }()
	c, err := w.connect(ctx, deadline)
	if err != nil {
		return nil, false, err
	}
	keep := false
	defer func() {
		if keep {
			w.putBack(c)
		} else {
			c.Close()
		}
	}()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, true, err
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		defer func() { keep = stop() && keep }()
	}
	_, werr := c.Write(c.request(path, body))
	if _, err := c.in.Peek(1); err != nil { // what the daemon said before it closed counts more than that it closed
		return nil, !errors.Is(err, os.ErrDeadlineExceeded), errors.Join(werr, err)
	}
	a, keep, err = c.answer()
	keep = keep && werr == nil
	return a, false, err
}

// wait waits for a slot.
func (w *wire) wait(ctx context.Context, deadline time.Time) error {
	select {
	case w.slots <- struct{}{}:
		return nil
	default:
	}
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	select {
	case w.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return context.DeadlineExceeded
	}
}

// connect returns the connection that was used last, or a new one.
func (w *wire) connect(ctx context.Context, deadline time.Time) (*wireConn, error) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		c := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		return c, nil
	}
	w.mu.Unlock()
	c, err := (&net.Dialer{Deadline: deadline}).DialContext(ctx, "unix", w.socket)
	if err != nil {
		return nil, err
	}
	return &wireConn{Conn: c, in: bufio.NewReader(c)}, nil
}

func (w *wire) putBack(c *wireConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle = append(w.idle, c)
}

// closeIdle closes the connections that no call uses.
func (w *wire) closeIdle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.idle {
		c.Close()
	}
	w.idle = nil
}

// request is the bytes of a request, good until the next one. They are wiped then,
// or with the connection: a body may hold what is to be encrypted.
func (c *wireConn) request(path string, body []byte) []byte {
	method := "POST "
	if body == nil {
		method = "GET "
	}
	out := append(append(append(c.out[:0], method...), path...), " HTTP/1.1\r\nHost: signetd\r\n"...)
	if body != nil {
		out = append(out, "Content-Type: application/json\r\nContent-Length: "...)
		out = append(strconv.AppendInt(out, int64(len(body)), 10), "\r\n"...)
	}
	c.out = append(append(out, "\r\n"...), body...)
	return c.out
}

// answer reads an answer. keep reports whether another request may follow on c.
func (c *wireConn) answer() (a *answer, keep bool, err error) {
	a = &answer{}
	h := head{length: -1}
	for a.status < 200 { // those before are not the answer yet
		if h, err = c.head(a); err != nil {
			return nil, false, err
		}
	}
	body := io.Reader(c.in)
	switch {
	case h.chunked:
		body = httputil.NewChunkedReader(c.in)
	case h.length > maxAnswer:
		return nil, false, errTooLong
	case h.length >= 0:
		a.body = make([]byte, h.length)
		_, err = io.ReadFull(c.in, a.body)
		return a, err == nil && !h.close, whole(err)
	}
	if a.body, err = io.ReadAll(io.LimitReader(body, maxAnswer+1)); err != nil {
		return nil, false, whole(err)
	}
	if len(a.body) > maxAnswer {
		return nil, false, errTooLong
	}
	if !h.chunked {
		return a, false, nil // it ended with the connection
	}
	_, err = c.line() // behind the last chunk: the daemon sends no trailers
	return a, err == nil && !h.close, err
}

// whole says of an end in the middle that it is none.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A head is what the headers of an answer say about the rest of it.
type head struct {
	length         int // of the body in bytes, or -1
	chunked, close bool
}

// maxHeaders is more than the daemon sends.
const maxHeaders = 64

// head reads the status line and the headers.
func (c *wireConn) head(a *answer) (head, error) {
	h := head{length: -1}
	line, err := c.line()
	if err != nil {
		return h, err
	}
	code, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || len(code) < 3 {
		return h, errAnswer
	}
	if a.status, err = strconv.Atoi(string(code[:3])); err != nil || a.status < 100 {
		return h, errAnswer
	}
	for range maxHeaders {
		if line, err = c.line(); err != nil || len(line) == 0 {
			return h, err
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return h, errAnswer
		}
		if err := h.note(a, name, bytes.TrimSpace(value)); err != nil {
			return h, err
		}
	}
	return h, errAnswer
}

// note reads one header.
func (h *head) note(a *answer, name, value []byte) error {
	is := func(want string) bool { return len(name) == len(want) && bytes.EqualFold(name, []byte(want)) }
	switch {
	case is("Content-Length"):
		n, err := strconv.ParseUint(string(value), 10, 31)
		if err != nil {
			return errAnswer
		}
		h.length = int(n) // #nosec G115 -- of 31 bits
	case is("Transfer-Encoding"):
		if h.chunked = bytes.EqualFold(value, []byte("chunked")); !h.chunked {
			return errAnswer
		}
	case is("Connection"):
		h.close = h.close || bytes.EqualFold(value, []byte("close"))
	case is("Retry-After"):
		a.retryAfter = string(value)
	}
	return nil
}

// line reads a line, which is good until the next read, without its end. One that
// is longer than the buffer is an error.
func (c *wireConn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errAnswer
	}
	if err != nil {
		return nil, whole(err)
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// Close implements [net.Conn].
func (c *wireConn) Close() error {
	clear(c.out[:cap(c.out)])
	return c.Conn.Close()
}
