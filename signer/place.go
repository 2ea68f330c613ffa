package signer

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// longestAttempt is how long one attempt may take if there are other places to try and
// the request has no deadline to share among them.
const longestAttempt = 5 * time.Second

// fairAttempt is how long an attempt without an answer must have lasted to say something
// about the place. A request may come with little time left.
const fairAttempt = 100 * time.Millisecond

// A PlaceConfig describes one place of a version.
type PlaceConfig struct {
	// Backend is the name of the backend that holds the key there, for reports. Two
	// places may have the same backend: two keys of one token.
	Backend string
	// Observe is called after each use of the private or secret key, with how long the
	// backend took. For a ciphertext that does not decrypt err is nil: a metric must not
	// tell it from one that does. Optional.
	Observe func(use Use, took time.Duration, err error)
	// Changed is called when the place goes away, with the error of the request that
	// found out, and with nil when a request finds it back. Optional.
	Changed func(err error)
	// Failover is called when a request that the place did not serve goes on to
	// another place. Optional.
	Failover func()
}

// A place is one backend that holds the key of a version. It has a key from [Version.Join]
// on, and is missing before.
type place struct {
	PlaceConfig
	key      atomic.Pointer[Key] // nil while missing; written by Join
	inFlight atomic.Int64
	presence Presence
}

func newPlace(c PlaceConfig) *place {
	if c.Observe == nil {
		c.Observe = func(Use, time.Duration, error) {}
	}
	if c.Changed == nil {
		c.Changed = func(error) {}
	}
	if c.Failover == nil {
		c.Failover = func() {}
	}
	p := &place{PlaceConfig: c}
	p.presence.Missing()
	return p
}

// join puts key at p.
func (p *place) join(key Key) {
	p.key.Store(&key)
	p.presence.Found()
}

func (p *place) missing() bool { return p.key.Load() == nil }

// A Place is what [Version.Places] says of a place.
type Place struct {
	Backend string
	State   State
}

// Places returns the places of v in the order of the config, and the state of each as
// far as requests know it: a place that went away stays so until a request finds it back.
func (v *Version) Places() []Place {
	list := make([]Place, len(v.places))
	for i, p := range v.places {
		list[i] = Place{p.Backend, p.presence.State()}
	}
	return list
}

// Missing reports whether no backend has opened v yet. The public half may be known
// nevertheless, from an earlier time when it was open.
func (v *Version) Missing() bool { return v.firstKey() == nil }

// firstKey returns the key of the first place that has one, or nil.
func (v *Version) firstKey() Key {
	for _, p := range v.places {
		if k := p.key.Load(); k != nil {
			return *k
		}
	}
	return nil
}

// away reports whether no place of v is there, as far as is known.
func (v *Version) away() bool {
	for _, p := range v.places {
		if p.presence.Present() {
			return false
		}
	}
	return true
}

// look reports whether the caller is to look now whether a place of v is back; see
// [Presence.Look].
func (v *Version) look(now time.Time) bool {
	return slices.ContainsFunc(v.places, func(p *place) bool { return !p.missing() && p.presence.Look(now) })
}

// Join puts key, which a backend has opened, at the place with the number i, in the order
// of [VersionConfig]. It is used from then on.
//
// It must be the same key as in the other places: ErrInvalid if not, and ErrUnsupported
// if it cannot do all the algorithms. Symmetric keys are compared by having one undo what
// the other did, so a place that works is needed: ErrUnavailable if there is none. Join
// must not run twice at the same time for one version.
func (v *Version) Join(ctx context.Context, i int, key Key) error {
	for _, alg := range v.algs {
		if err := checkKey(key, alg); err != nil {
			return err
		}
	}

	if !samePublic(v.public, key.Public()) {
		return errOtherKey
	}
	if other := v.firstKey(); other != nil {
		if err := v.alike(ctx, key, other); err != nil {
			return err
		}
	}

	v.places[i].join(key)
	return nil
}

var errOtherKey = fmt.Errorf("%w: it is not the same key as in the other places", ErrInvalid)

// samePublic reports whether two public halves, or two descriptions of a secret, are
// equal.
func samePublic(a, b crypto.PublicKey) bool {
	if s, ok := a.(Secret); ok {
		return s == b
	}
	same, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && same.Equal(b)
}

// alike compares key with those that have joined, of which other is one: it does what
// they do, and if it is a secret it is the same one.
func (v *Version) alike(ctx context.Context, key, other Key) error {
	for _, alg := range v.algs {
		if holdsCEK(key, alg) != holdsCEK(other, alg) {
			return fmt.Errorf("%w: %s: one place gives the CEK away and another keeps it", ErrUnsupported, alg)
		}
	}
	if _, secret := v.public.(Secret); !secret {
		return nil // equal public halves are enough
	}

	challenge := make([]byte, 32)
	rand.Read(challenge)
	same, err := v.sameSecret(ctx, key, challenge)
	switch {
	case errors.Is(err, ErrDecrypt), err == nil && !same:
		return errOtherKey
	case err != nil:
		return fmt.Errorf("compare with the other places: %w", err)
	}
	return nil
}

func holdsCEK(k Key, alg Alg) bool {
	c, ok := k.(ContentDecrypter)
	return ok && c.HoldsCEK(alg)
}

// sameSecret reports whether key and a place that has joined do the same to challenge, or
// one undoes what the other did. checkKey has looked that key can.
func (v *Version) sameSecret(ctx context.Context, key Key, challenge []byte) (bool, error) {
	var got []byte
	var err error
	want := challenge

	switch alg := v.algs[0]; alg.Family() { //nolint:exhaustive // the others are of key pairs
	case FamilyHMAC:
		if want, err = v.mac(ctx, alg, challenge); err == nil {
			got, err = key.(MACer).MACContext(ctx, challenge, alg.Hash())
		}
	case FamilyAESKW:
		var wrapped []byte
		if wrapped, err = v.wrap(ctx, WrapRFC3394, challenge); err == nil {
			got, err = key.(Wrapper).UnwrapContext(ctx, WrapRFC3394, wrapped)
		}
	case FamilyGCMKW, FamilyDir:
		var s sealed
		if s, err = v.seal(ctx, challenge, nil); err == nil {
			got, err = key.(AEAD).OpenContext(ctx, s.iv, s.text, nil)
		}
	default:
		return false, fmt.Errorf("%w: no way to compare two keys for %s", ErrUnsupported, alg)
	}
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1, err
}

// on performs one operation of a key at a place of v. It is the only way to a private or
// secret key, so that every use is observed and every place is judged by its answers.
//
// A request goes to the place that is there and has the fewest requests in flight. If that
// place answers ErrUnavailable, answers wrongly, or does not answer within its share of
// the time that is left, it is away and the request goes on to the next; after
// ErrOverloaded, too, which does not make a place away. Every other error is the answer:
// what one place cannot decrypt, none can. A place that is away is tried again after a
// pause, by one request at a time, and by requests for which there is no other.
//
// check says whether an answer is right; it is not part of the time observed. It may be
// nil.
func on[K Key, V any](ctx context.Context, v *Version, use Use, do func(context.Context, K) (V, error), check func(V) error) (answer V, err error) {
	var none V
	places := v.order()
	var failed []error
	for i, p := range places {
		key, ok := (*p.key.Load()).(K)
		if !ok {
			return none, fmt.Errorf("%w: the key does not do that", ErrUnsupported)
		}

		attempt, cancel := share(ctx, len(places)-i)
		start := time.Now()
		p.inFlight.Add(1)
		answer, err := do(attempt, key)
		p.inFlight.Add(-1)
		took := time.Since(start)
		cancel()
		p.Observe(use, took, observable(err))

		if err == nil && check != nil {
			err = check(answer)
		}
		switch {
		case err == nil:
			p.found()
			return answer, nil
		case !p.failed(ctx, took, err):
			return none, err
		case len(v.places) == 1:
			return none, err
		}

		failed = append(failed, fmt.Errorf("%s: %w", p.Backend, err))
		if i < len(places)-1 {
			p.Failover()
		}
	}
	return none, everywhere(failed)
}

// order returns the places to try, in that order, without those that are missing: first
// one that is away and due to be looked at again, then those that are there, by the
// number of requests in flight, and last those that are away.
func (v *Version) order() []*place {
	if n := len(v.places); n == 1 {
		if v.places[0].missing() {
			return nil
		}
		return v.places
	}

	now := time.Now()
	n := uint64(len(v.places))
	start := v.turn.Add(1) // places with as many in flight take turns
	list := make([]*place, 0, n)
	var look, away []*place
	for i := range n {
		switch p := v.places[(start+i)%n]; {
		case p.missing():
		case p.presence.Present():
			list = append(list, p)
		case look == nil && p.presence.Look(now):
			look = append(look, p)
		default:
			away = append(away, p)
		}
	}
	slices.SortStableFunc(list, func(a, b *place) int { return int(a.inFlight.Load() - b.inFlight.Load()) })
	return slices.Concat(look, list, away)
}

// share bounds one attempt so that each of the places left can have as much time. The
// last place gets ctx itself: supervise.Supervised does not know a context derived
// from it.
func share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	if left == 1 {
		return ctx, func() {}
	}
	most := longestAttempt
	if deadline, ok := ctx.Deadline(); ok {
		most = time.Until(deadline) / time.Duration(left)
	}
	return context.WithTimeout(ctx, most)
}

// observable is err as a metric may have it: no metric tells whether a ciphertext
// decrypted.
func observable(err error) error {
	if errors.Is(err, ErrDecrypt) {
		return nil
	}
	return err
}

// found notes that p answered.
func (p *place) found() {
	if _, news := p.presence.Found(); news {
		p.Changed(nil)
	}
}

// failed notes what err says of p, and reports whether its reason is the place's own, so
// that the request is to try another place.
func (p *place) failed(ctx context.Context, took time.Duration, err error) bool {
	own := ctx.Err() == nil // else the request has ended
	switch {
	case errors.Is(err, ErrDecrypt):
		// The ciphertext is at fault, which may show without a call of the backend. So it
		// says nothing about the place, and a peer that sends many of them must not keep
		// the requests of others from finding out.
		p.presence.LeaveLook()
		return false
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrVerify), own && errors.Is(err, context.DeadlineExceeded) && took >= fairAttempt:
		if p.presence.Lost() {
			p.Changed(err)
		}
		return own
	case errors.Is(err, ErrOverloaded), errors.Is(err, context.DeadlineExceeded):
		return own
	default:
		return false
	}
}

// everywhere is the error of a request that no place served. ErrOverloaded goes before
// ErrUnavailable, since the request may be repeated sooner.
func everywhere(failed []error) error {
	switch len(failed) {
	case 0:
		return fmt.Errorf("%w: no backend of the key has answered yet", ErrUnavailable)
	case 1:
		return failed[0]
	}

	is, overloaded := ErrVerify, false
	texts := make([]string, len(failed))
	for i, err := range failed {
		texts[i] = err.Error()
		switch {
		case errors.Is(err, ErrOverloaded):
			overloaded = true
		case !errors.Is(err, ErrVerify):
			is = ErrUnavailable
		}
	}
	if overloaded {
		is = ErrOverloaded
	}
	return fmt.Errorf("%w: in every place of the key: %s", is, strings.Join(texts, "; "))
}
