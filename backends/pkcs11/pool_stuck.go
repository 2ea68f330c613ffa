//go:build cgo

package pkcs11

import (
	"fmt"
	"time"

	"signetd/signer"
)

func errStuck(n int) error {
	return fmt.Errorf("%w: pkcs11: the module hangs in %d calls, and all sessions are in them", signer.ErrUnavailable, n)
}

// leave is what the caller of a job does when its context ends. It reports false if
// the job has ended before.
func (p *pool[S]) leave(h *hold) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.ended {
		return false
	}
	h.left = time.Now()
	p.counters.abandoned++
	if p.leftLocked() >= p.limit {
		time.AfterFunc(hangAfter, p.refuseIfStuck) // ends soon
	}
	return true
}

// leftLocked returns how many jobs run whose callers have left.
func (p *pool[S]) leftLocked() (n int) {
	for w := range p.seats {
		if w.hold == nil {
			continue
		}
		if _, left := w.hold.leftAt(); left {
			n++
		}
	}
	return n
}

// hangsLocked reports whether no session will be free soon. Mostly the first seat that
// it looks at says that one will be.
func (p *pool[S]) hangsLocked() bool {
	if len(p.seats) < p.limit {
		return false
	}
	var last time.Time
	for w := range p.seats {
		if w.hold == nil {
			return false
		}
		at, left := w.hold.leftAt()
		if !left {
			return false
		}
		if at.After(last) {
			last = at
		}
	}
	return time.Since(last) >= hangAfter
}

// watchLocked has those that wait refused when the module hangs.
func (p *pool[S]) watchLocked() {
	if !p.watching {
		p.watching = true
		time.AfterFunc(hangAfter, p.watch) // ends soon; again as long as somebody waits
	}
}

func (p *pool[S]) watch() {
	p.refuseIfStuck()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watching = false; p.waiting.Len() > 0 {
		p.watchLocked()
	}
}

// refuseIfStuck ends all that wait if the module hangs.
func (p *pool[S]) refuseIfStuck() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.hangsLocked() {
		return
	}
	for e := p.waiting.Front(); e != nil; e = p.waiting.Front() {
		t := p.waiting.Remove(e).(*turn[S])
		t.place = nil
		p.counters.stuck++
		t.endLocked(nil, errStuck(len(p.seats)))
	}
}

// stats fills in what the pool knows.
func (p *pool[S]) stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Sessions:        p.limit,
		Busy:            len(p.seats) - len(p.idle),
		Waiting:         p.waiting.Len(),
		Abandoned:       p.leftLocked(),
		AbandonedTotal:  p.counters.abandoned,
		ExpiredTotal:    p.counters.expired,
		OverloadedTotal: p.counters.overloaded,
		StuckTotal:      p.counters.stuck,
	}
}
