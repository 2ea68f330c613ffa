package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"time"
)

// A lane is what calls have in common that may share a connection: they wait for
// one key, whose backend may be slow or hang without holding up calls for others. A
// call whose lane names neither key nor kid has a connection alone: what changes
// the daemon, what is asked by GET, and batches, which hold many keys and save
// the system calls by themselves.
type lane struct{ path, key, kid string }

// kidOf returns the kid in the protected header of a token in compact form, or ""
// if none is seen there. It serves to find calls that have a key in common, no more.
func kidOf(token string) string {
	header, _, ok := strings.Cut(token, ".")
	var room [512]byte
	if !ok || base64.RawURLEncoding.DecodedLen(len(header)) > len(room) {
		return ""
	}
	decoded, err := base64.RawURLEncoding.AppendDecode(room[:0], []byte(header))
	if err != nil {
		return ""
	}
	_, rest, _ := bytes.Cut(decoded, []byte(`"kid":"`))
	kid, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(kid)
}

// A call is a request and what becomes of it. The fields of the second part are
// guarded by the mutex of the wire.
type call struct {
	ctx      context.Context //nolint:containedctx // of the one who made the call and waits for it
	lane     lane
	alone    bool
	began    time.Time
	deadline time.Time
	buffer   []byte        // has room for a head, and the request behind it
	request  []byte        // of buffer
	turn     chan struct{} // holds one if the call was woken
	timer    *time.Timer
	stop     func() bool // ends the watch of ctx

	answer // written by who reads, before done

	pipe       *pipe // on which it has a place
	crowded    bool  // others may come to write with it
	queued     bool  // its request was handed to pipe
	waiting    bool  // for turn
	done       bool
	left       bool // whoever takes it from the pipe is the last to have it
	unanswered bool // with err: not a byte of an answer came
	err        error
}

var freeCalls = sync.Pool{New: func() any {
	c := &call{turn: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	c.timer.Stop()
	return c
}}

func newCall(ctx context.Context, l lane, now, deadline time.Time) *call {
	c := freeCalls.Get().(*call) //nolint:forcetypeassert // nothing else is in there
	c.ctx, c.lane, c.began, c.deadline = ctx, l, now, deadline
	c.alone = l.key == "" && l.kid == ""
	return c
}

// maxKept is the size of the buffers that are kept for the next call.
const maxKept = 64 << 10

// free wipes what may be secret and keeps c for another call, unless somebody else
// has it still.
func (c *call) free() {
	clear(c.buffer)
	if c.left {
		return
	}
	clear(c.body)
	if cap(c.buffer) > maxKept || cap(c.body) > maxKept {
		return
	}
	select {
	case <-c.turn: // woken, and it had seen by itself
	default:
	}
	*c = call{turn: c.turn, timer: c.timer, buffer: c.buffer[:0], answer: answer{body: c.body[:0]}}
	freeCalls.Put(c)
}

// again prepares c to be asked a second time, on a connection of its own.
func (c *call) again() {
	c.alone, c.began = true, time.Now()
	c.pipe, c.queued, c.done, c.unanswered, c.err = nil, false, false, false, nil
}

// wake tells a call that waits to look around; one that does not wait will.
func (c *call) wake() {
	if !c.waiting {
		return
	}
	c.waiting = false
	select {
	case c.turn <- struct{}{}:
	default: // from before
	}
}

// finish ends a call that is no longer on a connection.
func (c *call) finish() {
	if c.left {
		clear(c.body)
		return
	}
	c.done = true
	c.wake()
}

// over returns why the time of c has ended, if it has.
func (c *call) over() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if !time.Now().Before(c.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// watch sees to it that reads and writes of p return when the context of c ends,
// whoever does them: those whose time has not ended go on.
func (c *call) watch(p *pipe) {
	if c.stop == nil && c.ctx.Done() != nil {
		conn := p.conn
		c.stop = context.AfterFunc(c.ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	}
}

func (c *call) unwatch() {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
}
