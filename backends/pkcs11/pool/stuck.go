package pool

import (
	"fmt"
	"time"

	"signetd/signer"
)

// hangAfter is how long every session must be in a call that its caller has left before
// the module counts as hanging: callers may also be impatient.
const hangAfter = 250 * time.Millisecond

func errStuck(n int) error {
	return fmt.Errorf("%w: pkcs11: the module hangs in %d calls, and all sessions are in them", signer.ErrUnavailable, n)
}

// leave notes that the caller of a call has left. It reports false if the call has ended
// before.
func (p *Pool[S]) leave(l *lease) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.ended {
		return false
	}
	l.left = time.Now()
	p.totals.AbandonedTotal++
	if p.leftLocked() >= p.limit {
		time.AfterFunc(hangAfter, p.refuseIfStuck) // ends soon
	}
	return true
}

// leftLocked returns how many calls run whose callers have left.
func (p *Pool[S]) leftLocked() (n int) {
	for s := range p.slots {
		if s.lease == nil {
			continue
		}
		if _, left := s.lease.leftAt(); left {
			n++
		}
	}
	return n
}

// hangsLocked reports whether no session will be free soon. In most cases the first slot
// that it looks at shows that one will be.
func (p *Pool[S]) hangsLocked() bool {
	if len(p.slots) < p.limit {
		return false
	}

	var last time.Time
	for s := range p.slots {
		if s.lease == nil {
			return false
		}
		at, left := s.lease.leftAt()
		if !left {
			return false
		}
		if at.After(last) {
			last = at
		}
	}
	return time.Since(last) >= hangAfter
}

// watchLocked has a timer look whether the module hangs, as long as calls wait.
func (p *Pool[S]) watchLocked() {
	if !p.watching {
		p.watching = true
		time.AfterFunc(hangAfter, p.watch) // ends soon
	}
}

func (p *Pool[S]) watch() {
	p.refuseIfStuck()

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watching = false; p.waiting.Len() > 0 {
		p.watchLocked()
	}
}

// refuseIfStuck refuses all calls that wait if the module hangs.
func (p *Pool[S]) refuseIfStuck() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.hangsLocked() {
		return
	}
	for e := p.waiting.Front(); e != nil; e = p.waiting.Front() {
		w := p.waiting.Remove(e).(*waiter[S])
		w.element = nil
		p.totals.StuckTotal++
		w.endLocked(nil, errStuck(len(p.slots)))
	}
}
