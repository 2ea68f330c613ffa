package daemon

import (
	"context"
	"sync"
	"time"
)

// refusalBurst is how many refused requests in a row a user may make before the
// brake takes hold: more than a mistake in a program makes before somebody looks.
const refusalBurst = 500

// A brake slows down users whose requests are refused, so that one without any
// grant cannot fill the audit log's disk, and with it silence the daemon for
// all: each refusal is a record, and costs its maker next to nothing.
type brake struct {
	every time.Duration // one refusal each
	most  time.Duration // an answer waits no longer

	mu   sync.Mutex
	free map[uint32]time.Time // by uid, when its refusals will have been paid for
}

func newBrake(perSecond int, most time.Duration) *brake {
	return &brake{every: time.Second / time.Duration(perSecond), most: most, free: map[uint32]time.Time{}}
}

// refused counts a refusal of uid, and returns when its answer may leave: at once
// within the burst, later above it.
func (b *brake) refused(ctx context.Context, uid uint32) {
	wait := min(b.charge(uid, time.Now())-refusalBurst*b.every, b.most)
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// charge adds one refusal to what uid owes and returns the sum. Who owes nothing
// any more is forgotten.
func (b *brake) charge(uid uint32, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	const sweepAt = 64 // users, so that a sweep is rare
	if _, known := b.free[uid]; !known && len(b.free) >= sweepAt {
		for other, at := range b.free {
			if !at.After(now) {
				delete(b.free, other)
			}
		}
	}
	at := b.free[uid]
	if at.Before(now) {
		at = now
	}
	at = at.Add(b.every)
	if limit := now.Add(refusalBurst*b.every + b.most); at.After(limit) {
		at = limit // what is owed is bounded, so that a user who stops is soon free
	}
	b.free[uid] = at
	return at.Sub(now)
}
