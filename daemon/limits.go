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

// slots hands out the right to work on a request: one of the peer's, then one of
// all. A request waits for at most half of its time. There are never more waiting
// than connections, times half the slots of a peer where they bring batches.
type slots struct {
	all     chan struct{}
	perPeer int
	wait    time.Duration

	mu    sync.Mutex
	peers map[uint32]*peerSlots // by uid, those with requests and some that had some
}

// keptPeers is how many users' slots are kept at least, so that those who come again and
// again find them.
const keptPeers = 64

type peerSlots struct {
	free  chan struct{}
	users int
}

func newSlots(l Limits) *slots {
	return &slots{all: make(chan struct{}, l.InFlight), perPeer: l.PerPeer, wait: l.Timeout / 2, peers: map[uint32]*peerSlots{}}
}

// acquire takes a slot of uid's and one of all, which release gives back. Errors are
// ErrOverloaded and ctx.Err().
func (s *slots) acquire(ctx context.Context, uid uint32) (*peerSlots, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // of a batch whose time is up
	}
	p := s.peer(uid)
	start := time.Now()
	if err := s.take(ctx, p.free, start, "this user's"); err != nil {
		s.leave(uid, p)
		return nil, err
	}
	if err := s.take(ctx, s.all, start, "all"); err != nil {
		<-p.free
		s.leave(uid, p)
		return nil, err
	}
	return p, nil
}

// release gives back what acquire took.
func (s *slots) release(uid uint32, p *peerSlots) {
	<-s.all
	<-p.free
	s.leave(uid, p)
}

// crowded reports whether half of uid's slots or of all are taken.
func (s *slots) crowded(uid uint32) bool {
	s.mu.Lock()
	p := s.peers[uid]
	s.mu.Unlock()
	return 2*len(s.all) >= cap(s.all) || p != nil && 2*len(p.free) >= cap(p.free)
}

// take takes a slot of c, and waits no longer than a request may that came at start.
func (s *slots) take(ctx context.Context, c chan struct{}, start time.Time, whose string) error {
	select {
	case c <- struct{}{}:
		return nil
	default:
	}
	timeout := time.NewTimer(time.Until(start.Add(s.wait)))
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

func (s *slots) peer(uid uint32) *peerSlots {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.peers[uid]
	if !ok {
		p = &peerSlots{free: make(chan struct{}, s.perPeer)}
		s.peers[uid] = p
	}
	p.users++
	return p
}

func (s *slots) leave(uid uint32, p *peerSlots) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.users--; p.users == 0 && len(s.peers) > keptPeers {
		delete(s.peers, uid)
	}
}
