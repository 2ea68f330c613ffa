package signer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// attemptMost is how long one attempt may take, if others can follow and the
// caller has no deadline to share among them.
const attemptMost = 5 * time.Second

// fairWait is how long an attempt must have lasted, if it got no answer, to say
// something about the place: a request may come with little time left.
const fairWait = 100 * time.Millisecond

// A ReplicasConfig says what [NewReplicas] makes.
type ReplicasConfig struct {
	// Public is the public half, or the [Secret], of the key. It is nil if nobody
	// has seen it: then no place can join, and every operation is ErrUnavailable.
	Public crypto.PublicKey
	// Backends are the names of the backends of the places, in the order in which
	// they are counted. A name may be there twice: two keys of one backend.
	Backends []string
	// Algs are the algorithms that every place must be able to do.
	Algs []Alg
	// Observe is called after each attempt at a place, as the one of
	// [VersionConfig] is. Optional.
	Observe func(backend string, use Use, took time.Duration, err error)
	// Changed is called when a place goes away, with the error, and when it is back,
	// with nil. Optional.
	Changed func(backend string, err error)
	// Failover is called when a request leaves a place that did not serve it for
	// another one. Optional.
	Failover func(backend string)
}

// Replicas is one key in several places: the two HSMs of a pair, or one account in
// two regions. It has every operation that a [Key] may have, and those that its
// algorithms need work. It is safe for concurrent use.
//
// A request goes to the place that is there and has the fewest in flight. If that
// answers ErrUnavailable, or not at all within its share of the time that is left,
// it is away, and the request goes to the next; after ErrOverloaded, too, which is
// no reason to stay away. Every other error is the answer: what one place cannot
// decrypt, none can. A place that is away is tried again after a rest, by one
// request at a time, and by those for which there is no other.
type Replicas struct {
	c       ReplicasConfig
	members []*member
	turn    atomic.Uint64 // so that places with as many in flight take turns
}

// A member is one place.
type member struct {
	backend  string
	key      atomic.Pointer[Key] // nil until it has joined
	inFlight atomic.Int64
	Presence
}

var (
	_ MessageSigner       = (*Replicas)(nil)
	_ RawSigner           = (*Replicas)(nil)
	_ ContentDecrypter    = (*Replicas)(nil)
	_ SessionKeyDecrypter = (*Replicas)(nil)
	_ MACer               = (*Replicas)(nil)
	_ Agreer              = (*Replicas)(nil)
	_ Wrapper             = (*Replicas)(nil)
	_ AEAD                = (*Replicas)(nil)
	_ BlobCipher          = (*Replicas)(nil)
	_ AlgLister           = (*Replicas)(nil)
)

// NewReplicas returns a key whose places are all still to [Replicas.Join].
func NewReplicas(c ReplicasConfig) *Replicas {
	if c.Observe == nil {
		c.Observe = func(string, Use, time.Duration, error) {}
	}
	if c.Changed == nil {
		c.Changed = func(string, error) {}
	}
	if c.Failover == nil {
		c.Failover = func(string) {}
	}
	r := &Replicas{c: c}
	for _, b := range c.Backends {
		r.members = append(r.members, &member{backend: b})
	}
	return r
}

// Join puts key, which a backend opened, at the place with the number i. It is
// used from then on.
//
// It must be the same key: ErrInvalid if not, and ErrUnsupported if it cannot do
// all the algorithms. Symmetric keys are compared by using one on what the other
// made, so there must be a place that works: ErrUnavailable if there is none.
// Join must not be called twice at once.
func (r *Replicas) Join(ctx context.Context, i int, key Key) error {
	for _, alg := range r.c.Algs {
		if err := checkAlg(key, alg); err != nil {
			return err
		}
	}
	if !samePublic(r.c.Public, key.Public()) {
		return errOtherKey
	}
	if r.joined() > 0 {
		if err := r.alike(ctx, key); err != nil {
			return err
		}
	}
	r.members[i].key.Store(&key)
	return nil
}

var errOtherKey = fmt.Errorf("%w: it is not the same key as in the other places", ErrInvalid)

// samePublic reports whether two public halves, or two descriptions of a secret,
// are equal.
func samePublic(a, b crypto.PublicKey) bool {
	if s, ok := a.(Secret); ok {
		return s == b
	}
	same, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && same.Equal(b)
}

// joined returns how many places have joined.
func (r *Replicas) joined() (n int) {
	for _, m := range r.members {
		if m.key.Load() != nil {
			n++
		}
	}
	return n
}

// away reports whether no place is there, as far as is known.
func (r *Replicas) away() bool {
	for _, m := range r.members {
		if m.key.Load() != nil && m.Present() {
			return false
		}
	}
	return true
}

// due reports whether it is time to look whether a place is back.
func (r *Replicas) due(now time.Time) bool {
	return slices.ContainsFunc(r.members, func(m *member) bool {
		if m.key.Load() == nil {
			return false
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		return !now.Before(m.next)
	})
}

// can reports whether the algorithms need the operation of a family.
func (r *Replicas) can(f Family) bool {
	return slices.ContainsFunc(r.c.Algs, func(a Alg) bool { return a.Family() == f })
}

// order returns the members to try, in that order: the one to look at again, if it
// is time for that, those that are there by how much they have in flight, and for
// want of others those that are away.
func (r *Replicas) order(now time.Time) []*member {
	n := len(r.members)
	start := int(r.turn.Add(1) % uint64(n)) // #nosec G115 -- below n
	list := make([]*member, 0, n)
	var look, away []*member
	for i := range n {
		switch m := r.members[(start+i)%n]; {
		case m.key.Load() == nil:
		case m.Present():
			list = append(list, m)
		case look == nil && m.Look(now):
			look = append(look, m)
		default:
			away = append(away, m)
		}
	}
	slices.SortStableFunc(list, func(a, b *member) int { return int(a.inFlight.Load() - b.inFlight.Load()) })
	return slices.Concat(look, list, away)
}

// replicated runs f, which is one operation of a key, at the places of r until one
// has an answer.
func replicated[K Key, V any](ctx context.Context, r *Replicas, use Use, f func(context.Context, K) (V, error)) (v V, err error) {
	list := r.order(time.Now())
	var failed []error
	for i, m := range list {
		k, ok := (*m.key.Load()).(K)
		if !ok {
			return v, fmt.Errorf("%w: the key does not do that", ErrUnsupported)
		}
		attempt, cancel := share(ctx, len(list)-i)
		start := time.Now()
		v, err := busy(m, func() (V, error) { return f(attempt, k) })
		cancel()
		took := time.Since(start)
		r.c.Observe(m.backend, use, took, observable(err))
		if !r.goesOn(ctx, m, took, err) {
			return v, err
		}
		failed = append(failed, fmt.Errorf("%s: %w", m.backend, err))
		if i < len(list)-1 {
			r.c.Failover(m.backend)
		}
	}
	return v, everywhere(failed)
}

// busy runs f while m counts it as in flight.
func busy[V any](m *member, f func() (V, error)) (V, error) {
	m.inFlight.Add(1)
	defer m.inFlight.Add(-1)
	return f()
}

// share bounds one attempt so that as many as are left can have as long. The last
// one has all that is left.
func share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	if left == 1 {
		return ctx, func() {}
	}
	most := attemptMost
	if deadline, ok := ctx.Deadline(); ok {
		most = time.Until(deadline) / time.Duration(left)
	}
	return context.WithTimeout(ctx, most)
}

// observable is err as a metric may have it: whether a ciphertext decrypted is for
// none.
func observable(err error) error {
	if errors.Is(err, ErrDecrypt) {
		return nil
	}
	return err
}

// goesOn reports whether a request whose attempt at m came to err is to try
// another place, and notes what err says of m.
func (r *Replicas) goesOn(ctx context.Context, m *member, took time.Duration, err error) bool {
	switch {
	case err == nil:
		if _, news := m.Found(); news {
			r.c.Changed(m.backend, nil)
		}
		return false
	case ctx.Err() != nil, errors.Is(err, ErrDecrypt):
		return false // nobody waits any more; the ciphertext is at fault
	case errors.Is(err, ErrOverloaded):
		return true
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded) && took >= fairWait:
		if m.Lost() {
			r.c.Changed(m.backend, err)
		}
		return true
	case errors.Is(err, context.DeadlineExceeded):
		return true
	default:
		return false
	}
}

// everywhere is the error of a request that no place served. If one is only
// overloaded, that is what to tell.
func everywhere(failed []error) error {
	switch len(failed) {
	case 0:
		return fmt.Errorf("%w: no backend of the key has answered yet", ErrUnavailable)
	case 1:
		return failed[0]
	}
	is := ErrUnavailable
	texts := make([]string, len(failed))
	for i, err := range failed {
		texts[i] = err.Error()
		if errors.Is(err, ErrOverloaded) {
			is = ErrOverloaded
		}
	}
	return fmt.Errorf("%w: in every place of the key: %s", is, strings.Join(texts, "; "))
}
