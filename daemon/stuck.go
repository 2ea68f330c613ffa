package daemon

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// watchCalls sees to it that somebody looks for stuck calls as long as any connection is
// active. That of the caller must be already.
func (s *Server) watchCalls() {
	if !s.watching.Load() && s.watching.CompareAndSwap(false, true) {
		time.AfterFunc(min(s.limits.Timeout/10, 100*time.Millisecond), s.endStuck) // ends soon; again while there are requests
	}
}

// endStuck answers for the connections whose goroutines cannot, since their calls into
// a token do not return.
func (s *Server) endStuck() {
	// Before it looks: a request that finds somebody watching is seen to be active.
	s.watching.Store(false)
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	now, active := time.Now(), false
	for _, c := range open {
		active = active || http.ConnState(c.state.Load()) == http.StateActive // its call may not have begun
		if stuck := c.watch.stuck(now, s.limits.Timeout); stuck != nil {
			go c.abandon(stuck) // ends when the answer is written
		}
	}
	if active {
		s.watchCalls()
	}
}

// abandon answers in place of the goroutine of c, which is in stuck, and closes c.
// What it had not sent yet goes with the answer.
func (c *conn) abandon(stuck *call) {
	err, ok := stuck.abandon()
	if !ok {
		return // it came back after all
	}
	c.expect(0) // those behind it come to nothing
	c.answers.add(fail(&request{Request: stuck.request}, err), true)
	_ = c.answers.send(c) // or the peer is gone; the record is written
	_ = c.Close()         // there is nothing to be done about an error
}
