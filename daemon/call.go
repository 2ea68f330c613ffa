package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// A call is one request on its way: the setup and the ring that it began with, the
// time that it began, and the audit record that its steps fill in.
type call struct {
	*generation
	Ring *signer.Ring
	peer policy.Peer
	now  time.Time
	rec  audit.Record

	service *Service
	request Request

	mu      sync.Mutex
	settled bool
	held    *peerSlots // nil unless it has slots
	noted   used
}

// A used is what [call.use] noted: the names of a record.
type used struct{ key, kid, alg string }

// errAbandoned is what a call comes to that somebody else has answered for.
var errAbandoned = errors.New("answered at its deadline")

// allow asks the policy. An operation asks before it looks a key up by name, so
// that an unknown key is denied like any other.
func (c *call) allow(op api.Op, key string) error {
	return c.Policy.Check(c.peer, op, key)
}

// use notes which version does the work, and with what. From then on the key's
// name may be a label of a metric.
func (c *call) use(key string, v *signer.Version, alg signer.Alg) {
	c.rec.Key, c.rec.KID, c.rec.Alg = key, v.KID(), string(alg)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noted = used{c.rec.Key, c.rec.KID, c.rec.Alg}
}

// settle reports whether the caller is the one who says what became of c. A call into
// a token cannot be interrupted: where the goroutine that makes it is the
// connection's own, it cannot answer when the request's time is over, and whoever
// watches it does so. The first to settle a call gives its answer, and writes its
// record; what the other has is thrown away.
func (c *call) settle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled {
		return false
	}
	c.settled = true
	c.service.coming.Add(-1) // the record is made now
	return true
}

// hold notes that c has slots of p.
func (c *call) hold(p *peerSlots) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = p
	c.service.metrics.inFlight.Inc()
}

// free gives the slots of c back, if it has any.
func (c *call) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return
	}
	c.service.metrics.inFlight.Dec()
	c.service.slots.release(c.peer.UID, c.held)
	c.held = nil
}

// grace is how much later than its deadline a call is taken to be stuck: all others
// answer for themselves.
const grace = 20 * time.Millisecond

// abandon settles a call that is stuck, and records that its time is over. It reports
// false if the call was settled in time; otherwise err is its answer.
func (c *call) abandon() (err error, ok bool) { //nolint:revive // err is a result, and no failure
	if !c.settle() {
		return nil, false
	}
	c.free()
	c.mu.Lock()
	rec := audit.Record{Op: c.rec.Op, Key: c.noted.key, KID: c.noted.kid, Alg: c.noted.alg} // the rest is still being filled in
	c.mu.Unlock()
	reason := context.DeadlineExceeded
	if werr := c.service.record(c.request, &rec, c.now, reason); werr != nil {
		return werr, true
	}
	return reason, true
}

// A watch shows the call that a goroutine is in to whoever watches that goroutine. A
// nil watch shows it to nobody.
type watch struct{ call atomic.Pointer[call] }

func (w *watch) begin(c *call) {
	if w != nil {
		w.call.Store(c)
	}
}

func (w *watch) end() {
	if w != nil {
		w.call.Store(nil)
	}
}

// stuck returns the call if it should have ended by now.
func (w *watch) stuck(now time.Time, timeout time.Duration) *call {
	if c := w.call.Load(); c != nil && now.After(c.now.Add(timeout+grace)) {
		return c
	}
	return nil
}
