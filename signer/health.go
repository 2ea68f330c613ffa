package signer

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// What is away rests for a while before a request looks whether it is back:
// firstRest at first, and twice as long each time that it is not.
const (
	firstRest   = 100 * time.Millisecond
	longestRest = 5 * time.Second
)

// A health says whether something that can go away is there, as far as those
// know who used it. Its zero value is there.
type health struct {
	away atomic.Bool // read on each request, so that what is there costs no lock

	mu      sync.Mutex
	rest    time.Duration
	next    time.Time // when somebody is to look
	looking bool      // somebody is, and will say what came of it
}

// probe reports whether the caller is to look whether it is back. One at a time
// is, or a backend that comes back would meet all its requests at once.
func (h *health) probe(now time.Time) bool {
	if !h.away.Load() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Before(h.next) {
		return false
	}
	h.next, h.looking = now.Add(longestRest), true // until the caller has an answer
	return true
}

// failed notes that it did not answer, and reports whether that is news.
func (h *health) failed() (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	news = !h.away.Load()
	switch {
	case news:
		h.rest = firstRest
		h.away.Store(true)
	case h.looking:
		h.rest = min(2*h.rest, longestRest)
	default:
		return false // it was on its way when another found out
	}
	h.looking = false
	h.next = time.Now().Add(h.rest/2 + rand.N(h.rest/2+1)) // #nosec G404 -- jitter, so that many hosts do not knock at once
	return news
}

// worked notes that it answered, and reports whether that is news.
func (h *health) worked() (news bool) {
	return h.away.Load() && h.away.CompareAndSwap(true, false)
}
