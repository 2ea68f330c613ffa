package signer

import (
	"errors"
	"fmt"
	"time"
)

// A State says whether a place of a version can be used.
type State string

// The states of a place.
const (
	StateOK      State = "ok"
	StateAway    State = "away"    // it was open; its backend does not answer
	StateMissing State = "missing" // its backend has not answered since the key was first to be opened
)

// A Place is one backend that holds a version.
type Place struct {
	Backend string
	State   State
}

// Places returns where v is, in the order of the config, and how that is. Away is
// what requests found, and stays until one finds it back.
func (v *Version) Places() []Place {
	r, ok := v.key.(*Replicas)
	if !ok {
		return []Place{{v.backend, stateOf(&v.health)}}
	}
	list := make([]Place, len(r.members))
	for i, m := range r.members {
		list[i] = Place{m.backend, stateOf(&m.health)}
		if m.key.Load() == nil {
			list[i].State = StateMissing
		}
	}
	return list
}

func stateOf(h *health) State {
	if h.away.Load() {
		return StateAway
	}
	return StateOK
}

// Missing reports whether no backend has opened v yet. Its public half may be known
// nevertheless, from before.
func (v *Version) Missing() bool {
	r, ok := v.key.(*Replicas)
	return ok && r.joined() == 0
}

// Seen reports whether v's public half is known, and so its kid.
func (v *Version) Seen() bool { return v.seen() == nil }

func (v *Version) seen() error {
	if v.key.Public() == nil {
		return fmt.Errorf("%w: backend %q has not answered yet, and the key cannot be known without it", ErrUnavailable, v.backend)
	}
	return nil
}

// away reports whether v cannot be used, as far as is known.
func (v *Version) away() bool {
	if r, ok := v.key.(*Replicas); ok {
		return r.away()
	}
	return v.health.away.Load()
}

// probe reports whether the caller is to look whether v is back.
func (v *Version) probe(now time.Time) bool {
	if r, ok := v.key.(*Replicas); ok {
		return r.due(now)
	}
	return v.health.probe(now)
}

// used notes what a use of the private key that began at start came to.
func (v *Version) used(use Use, start time.Time, err error) {
	v.observe(use, time.Since(start), err)
	if _, ok := v.key.(*Replicas); ok {
		return // they know better
	}
	switch {
	case err == nil:
		if v.health.worked() {
			v.changed(nil)
		}
	case errors.Is(err, ErrUnavailable):
		if v.health.failed() {
			v.changed(err)
		}
	}
}
