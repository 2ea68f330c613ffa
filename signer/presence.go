package signer

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A State says whether something that can go away can be used now. Its text is what
// the API, the metrics and the log say.
type State string

// The states of a place, a backend or a token.
const (
	StateOK      State = "ok"
	StateAway    State = "away"    // it was there; it does not answer now
	StateMissing State = "missing" // it has not answered since it was first to be opened
)

// The pauses between two looks at something that is away or missing: firstPause after
// the look that found it so, and twice as long after each further look in vain.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// Presence tracks whether something that can go away is there: a place of a [Version],
// a backend, a token. The zero value is present. It is safe for concurrent use, and for
// something that is present it costs one atomic load and no lock.
//
// Whoever uses the thing reports the outcome of each use with [Presence.Found] or
// [Presence.Lost]. Both say whether that is news, so that the log has one line when the
// thing goes away and one when it is back.
//
// What is away is looked at again after a pause, by one user at a time: otherwise a
// backend that comes back would meet all waiting requests at once. A request asks
// [Presence.Look] whether the look is its own. A background loop uses [Presence.Wait]:
//
//	for p.Wait(ctx.Done()) {
//		if err := open(); err == nil {
//			p.Found()
//			break
//		}
//		p.Lost()
//	}
type Presence struct {
	state atomic.Pointer[State] // nil is StateOK; written under mu

	mu      sync.Mutex    // guards what follows
	since   time.Time     // when the thing went away, or was found missing
	pause   time.Duration // the last pause, without jitter
	next    time.Time     // when the next look is due
	looking bool          // one caller looks now, and will report the outcome
}

// States that a Presence points to.
var stateAway, stateMissing = StateAway, StateMissing

// State returns the state as of the last report.
func (p *Presence) State() State {
	if s := p.state.Load(); s != nil {
		return *s
	}
	return StateOK
}

// Present reports whether the state is [StateOK].
func (p *Presence) Present() bool { return p.state.Load() == nil }

// Found reports that it answered. If that is news, after is how long it was away or
// missing.
func (p *Presence) Found() (after time.Duration, news bool) {
	if p.Present() {
		return 0, false
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Present() {
		return 0, false
	}
	p.state.Store(nil)
	p.looking = false
	return time.Since(p.since), true
}

// Lost reports that it did not answer, and returns whether it was present until now.
// What is missing stays missing. The reports of uses that were already on their way
// when it went away do not make the pauses longer.
func (p *Presence) Lost() (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()

	switch news = p.Present(); {
	case news:
		p.goneLocked(&stateAway)
	case p.looking:
		p.pauseLocked(min(2*p.pause, longestPause))
	}
	return news
}

// Missing sets the state to [StateMissing], which only [Presence.Found] ends. It is for
// what was to be opened and did not answer.
func (p *Presence) Missing() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.goneLocked(&stateMissing)
}

func (p *Presence) goneLocked(s *State) {
	p.since = time.Now()
	p.state.Store(s)
	p.pauseLocked(firstPause)
}

// pauseLocked begins a pause of d, or up to half of it less: many hosts that lost one
// service at the same time must not come back to it at the same time.
func (p *Presence) pauseLocked(d time.Duration) {
	p.looking = false
	p.pause = d
	p.next = time.Now().Add(d/2 + rand.N(d/2+1)) // #nosec G404 -- jitter
}

// Look reports whether the caller is to look now whether it is back, which is so for one
// caller after each pause. That caller reports what it found with [Presence.Found] or
// [Presence.Lost], or hands the look on with [Presence.LeaveLook]. If it does nothing,
// another one looks after the longest pause.
func (p *Presence) Look(now time.Time) bool {
	if p.Present() {
		return false
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Present() || now.Before(p.next) {
		return false
	}
	p.next, p.looking = now.Add(longestPause), true
	return true
}

// LeaveLook reports that a look has found nothing out, so that the next caller looks.
func (p *Presence) LeaveLook() {
	if p.Present() {
		return
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.looking {
		p.looking = false
		p.next = time.Now()
	}
}

// Wait waits until the next look is due and the caller is to look, as after
// [Presence.Look]. It returns false at once if the thing is present, and when stop is
// closed.
func (p *Presence) Wait(stop <-chan struct{}) bool {
	for !p.Present() {
		p.mu.Lock()
		pause := time.NewTimer(time.Until(p.next))
		p.mu.Unlock()

		select {
		case <-pause.C:
			if p.Look(time.Now()) {
				return true
			}
		case <-stop:
			pause.Stop()
			return false
		}
	}
	return false
}
