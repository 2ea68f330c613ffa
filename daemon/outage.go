package daemon

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"signetd/daemon/audit"
)

// outages remembers the keys that a backend cannot serve, so that the log has one
// line when that begins, with what to do about it, and one when it ends: the audit
// log has the reason of each request, and nobody looks there first.
type outages struct {
	n     atomic.Int32 // of since, so that requests need no lock while all is well
	mu    sync.Mutex
	since map[string]time.Time // by key
}

// note logs it if rec, which came to outcome, begins or ends an outage.
func (o *outages) note(logger *slog.Logger, rec *audit.Record, outcome error) {
	const unavailable = "unavailable"
	if rec.KID == "" || (rec.Outcome != unavailable && (outcome != nil || o.n.Load() == 0)) {
		return // what a peer makes up is no key; what is its own fault says nothing of a backend
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	began, out := o.since[rec.Key]
	switch {
	case outcome != nil && !out:
		if o.since == nil {
			o.since = make(map[string]time.Time)
		}
		o.since[rec.Key] = time.Now()
		logger.Warn("key unavailable", "key", rec.Key, "kid", rec.KID, "err", outcome)
	case outcome == nil && out:
		delete(o.since, rec.Key)
		logger.Info("key available again", "key", rec.Key, "kid", rec.KID, "after", time.Since(began).Round(time.Millisecond))
	}
	o.n.Store(int32(len(o.since))) // #nosec G115 -- as many as there are keys
}
