package http1

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// A RouteKey is what calls have in common that may share a connection: they wait for the
// same key, so a backend that is slow or hangs does not delay calls for other keys.
//
// A call without Key and KID has a connection to itself. That is right for what changes
// the daemon, for GETs, and for batches, which use many keys and save system calls by
// themselves.
type RouteKey struct{ Path, Key, KID string }

// A Call is one request and its answer. It belongs to the goroutine that calls [NewCall],
// writes the body to Request, calls [ConnPool.Do], reads Answer and calls [Call.Free].
type Call struct {
	// Request is the JSON of the request's body. It stays as it is during Do.
	Request bytes.Buffer
	// Answer is written by the call that reads the connection, before done is set.
	Answer Answer

	// Set by NewCall and Do before other goroutines see the call.
	method   string
	key      RouteKey
	alone    bool            // the call does not share a connection
	ctx      context.Context //nolint:containedctx // that of the goroutine in Do
	deadline time.Time
	began    time.Time

	// Used by the goroutine in Do alone, except that others send to woken.
	woken     chan struct{} // holds one value after wake
	timer     *time.Timer
	stopWatch func() bool // ends the watch of ctx

	// Guarded by ConnPool.mu.
	conn       *pipelinedConn // on which the call has room; nil while it waits for a connection
	crowded    bool           // other calls may come to write together with this one
	tracked    bool           // the request was handed to conn
	waiting    bool           // the goroutine waits for woken
	done       bool           // the call has an answer or err
	abandoned  bool           // the goroutine has left; the reader of conn discards the answer
	unanswered bool           // beside err: not a byte of the answer came
	err        error
}

// maxKept is the size in bytes of the largest buffer that is kept for later calls.
const maxKept = 64 << 10

var freeCalls = sync.Pool{New: func() any {
	c := &Call{woken: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	c.timer.Stop()
	// Most requests fit without growing the buffer, which leaves a copy in the heap that
	// nothing clears.
	c.Request.Grow(4 << 10)
	return c
}}

// NewCall returns a call of key.Path by GET or POST. The caller frees it.
func NewCall(method string, key RouteKey) *Call {
	c := freeCalls.Get().(*Call) //nolint:forcetypeassert // nothing else is in the pool
	c.method, c.key = method, key
	return c
}

// Free clears the request and the answer, which may hold secrets, and keeps the call's
// buffers for another call. The caller must not use c, nor the bytes of its answer, any
// more.
func (c *Call) Free() {
	c.Request.Reset()
	request := c.Request.AvailableBuffer()
	clear(request[:cap(request)]) // an encoder that failed may have written behind the end
	if c.abandoned {
		return // the reader of the connection still has c
	}

	clear(c.Answer.Body)
	if c.Request.Cap() > maxKept || cap(c.Answer.Body) > maxKept {
		return
	}
	select {
	case <-c.woken: // it was woken after it had looked by itself
	default:
	}
	*c = Call{Request: c.Request, Answer: Answer{Body: c.Answer.Body[:0]}, woken: c.woken, timer: c.timer}
	freeCalls.Put(c)
}

// again prepares c to be sent a second time, on a connection of its own.
func (c *Call) again() {
	c.alone, c.began = true, time.Now()
	c.conn, c.tracked, c.done, c.unanswered, c.err = nil, false, false, false, nil
}

// headRoom is the length of the longest head of a request without its path.
const headRoom = 128

// appendHead appends the head of the request to dst.
func (c *Call) appendHead(dst []byte) []byte {
	dst = append(append(append(dst, c.method...), ' '), c.key.Path...)
	dst = append(dst, " HTTP/1.1\r\nHost: signetd\r\n"...)
	if c.method == http.MethodPost {
		dst = append(dst, "Content-Type: application/json\r\nContent-Length: "...)
		dst = append(strconv.AppendInt(dst, int64(c.Request.Len()), 10), "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// wake makes the goroutine of c look at its state again, if it waits. The caller holds
// ConnPool.mu.
func (c *Call) wake() {
	if !c.waiting {
		return
	}
	c.waiting = false
	select {
	case c.woken <- struct{}{}:
	default: // it was woken before and has not looked yet
	}
}

// finish ends a call that is no longer on a connection. The caller holds ConnPool.mu.
func (c *Call) finish() {
	if c.abandoned {
		clear(c.Answer.Body)
		return
	}
	c.done = true
	c.wake()
}

// timeUp returns the error with which the time of c has ended, or nil.
func (c *Call) timeUp() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if !time.Now().Before(c.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// watch makes reads and writes of conn return when the context of c ends. That concerns
// whichever call reads or writes at that moment: one whose own time has not ended tries
// again.
func (c *Call) watch(conn *pipelinedConn) {
	if c.stopWatch == nil && c.ctx.Done() != nil {
		netConn := conn.conn
		c.stopWatch = context.AfterFunc(c.ctx, func() { _ = netConn.SetDeadline(time.Unix(1, 0)) })
	}
}

func (c *Call) unwatch() {
	if c.stopWatch != nil {
		c.stopWatch()
		c.stopWatch = nil
	}
}
