package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"signetd/signer"
)

// Limits bound what the daemon takes on. A field that is zero has its default.
type Limits struct {
	Connections  int           `yaml:"connections"`   // open at once; one user has at most half of them (default 256)
	InFlight     int           `yaml:"in_flight"`     // requests being worked on at once (default 64)
	PerPeer      int           `yaml:"per_peer"`      // of these, of one user (default 16)
	Refusals     int           `yaml:"refusals"`      // refused requests of one user a second, above which they are answered late (default 50)
	Batch        int           `yaml:"batch"`         // requests in one batch (default 64)
	RequestBytes int64         `yaml:"request_bytes"` // the size of a request's body (default 1 MiB)
	Timeout      time.Duration `yaml:"timeout"`       // to read a request, and again to work on it (default 5 s)
}

// WithDefaults returns l with its zero fields filled in.
func (l Limits) WithDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Connections, 256)
	def(&l.InFlight, 64)
	def(&l.PerPeer, 16)
	def(&l.Refusals, 50)
	def(&l.Batch, 64)

	if l.RequestBytes == 0 {
		l.RequestBytes = 1 << 20
	}
	if l.Timeout == 0 {
		l.Timeout = 5 * time.Second
	}
	return l
}

// An admission hands out the right to work on a request: a place among those of the peer's
// user, and then one among all. A request waits for it for at most half of its time. The
// number of requests that wait is bounded, too: each connection has one, or a batch, which
// has at most half of a user's places. It is safe for concurrent use.
type admission struct {
	all     chan struct{} // holds one value for each place that is taken
	perPeer int
	wait    time.Duration

	mu    sync.Mutex
	peers map[uint32]*peerAdmission // by uid, those with requests and some that had some; under mu
}

// keptPeers is how many users an admission remembers at least, so that those who come
// again and again cost no allocation.
const keptPeers = 64

type peerAdmission struct {
	taken chan struct{} // holds one value for each place that is taken
	users int           // requests that hold or await a place; under admission.mu
}

func newAdmission(l Limits) *admission {
	return &admission{all: make(chan struct{}, l.InFlight), perPeer: l.PerPeer, wait: l.Timeout / 2, peers: map[uint32]*peerAdmission{}}
}

// acquire takes a place of uid's and one of all, which release gives back. Errors are
// ErrOverloaded and ctx.Err().
func (a *admission) acquire(ctx context.Context, uid uint32) (*peerAdmission, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // of a batch whose time is over
	}

	p := a.join(uid)
	start := time.Now()
	if err := a.take(ctx, p.taken, start, "this user's"); err != nil {
		a.leave(uid, p)
		return nil, err
	}
	if err := a.take(ctx, a.all, start, "all"); err != nil {
		<-p.taken
		a.leave(uid, p)
		return nil, err
	}
	return p, nil
}

// release gives back what acquire took.
func (a *admission) release(uid uint32, p *peerAdmission) {
	<-a.all
	<-p.taken
	a.leave(uid, p)
}

// crowded reports whether half of uid's places or of all are taken.
func (a *admission) crowded(uid uint32) bool {
	a.mu.Lock()
	p := a.peers[uid]
	a.mu.Unlock()
	return 2*len(a.all) >= cap(a.all) || p != nil && 2*len(p.taken) >= cap(p.taken)
}

// take takes a place of c. It waits until half of the time of a request that came at start
// is over.
func (a *admission) take(ctx context.Context, c chan struct{}, start time.Time, whose string) error {
	select {
	case c <- struct{}{}:
		return nil
	default:
	}

	timeout := time.NewTimer(time.Until(start.Add(a.wait)))
	defer timeout.Stop()
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return fmt.Errorf("%w: %s requests in flight are as many as the limit", signer.ErrOverloaded, whose)
	}
}

func (a *admission) join(uid uint32) *peerAdmission {
	a.mu.Lock()
	defer a.mu.Unlock()

	p, ok := a.peers[uid]
	if !ok {
		p = &peerAdmission{taken: make(chan struct{}, a.perPeer)}
		a.peers[uid] = p
	}
	p.users++
	return p
}

func (a *admission) leave(uid uint32, p *peerAdmission) {
	a.mu.Lock()
	defer a.mu.Unlock()

	if p.users--; p.users == 0 && len(a.peers) > keptPeers {
		delete(a.peers, uid)
	}
}

// A refusalLimiter delays the answers to users whose requests are refused. A refusal is a
// record in the audit log and costs its maker next to nothing: without this, a user who has
// no grant at all could fill the log's disk, and so silence the daemon for everybody. It is
// safe for concurrent use.
type refusalLimiter struct {
	every time.Duration // one refusal of a user is free in this time
	most  time.Duration // an answer waits no longer than this

	mu    sync.Mutex
	until map[uint32]time.Time // by uid, when its refusals will have been paid for; under mu
}

// refusalBurst is how many refused requests in a row a user may make before their answers
// are delayed: more than a mistake in a program makes before its operator looks.
const refusalBurst = 500

func newRefusalLimiter(l Limits) *refusalLimiter {
	return &refusalLimiter{every: time.Second / time.Duration(l.Refusals), most: l.Timeout / 2, until: map[uint32]time.Time{}}
}

// wait counts a refusal of uid, and returns when its answer may leave: at once within the
// burst, later above it.
func (r *refusalLimiter) wait(ctx context.Context, uid uint32) {
	wait := min(r.charge(uid, time.Now())-refusalBurst*r.every, r.most)
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

// charge adds one refusal to what uid owes, and returns the sum.
func (r *refusalLimiter) charge(uid uint32, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()

	// Users who owe nothing any more are forgotten, but rarely, because the sweep is long.
	const sweepAt = 64
	if _, known := r.until[uid]; !known && len(r.until) >= sweepAt {
		for other, at := range r.until {
			if !at.After(now) {
				delete(r.until, other)
			}
		}
	}

	at := r.until[uid]
	if at.Before(now) {
		at = now
	}
	at = at.Add(r.every)

	// What is owed is bounded, so that a user who stops is soon free.
	if limit := now.Add(refusalBurst*r.every + r.most); at.After(limit) {
		at = limit
	}
	r.until[uid] = at
	return at.Sub(now)
}
