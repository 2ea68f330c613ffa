package signer

import (
	"errors"
	"fmt"
	"time"
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
		return []Place{{v.backend, v.health.State()}}
	}
	list := make([]Place, len(r.members))
	for i, m := range r.members {
		list[i] = Place{m.backend, m.State()}
		if m.key.Load() == nil {
			list[i].State = StateMissing
		}
	}
	return list
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
	return !v.health.Present()
}

// probe reports whether the caller is to look whether v is back.
func (v *Version) probe(now time.Time) bool {
	if r, ok := v.key.(*Replicas); ok {
		return r.due(now)
	}
	return v.health.Look(now)
}

// used notes what a use of the private key that began at start came to.
func (v *Version) used(use Use, start time.Time, err error) {
	v.observe(use, time.Since(start), err)
	if _, ok := v.key.(*Replicas); ok {
		return // they know better
	}
	switch {
	case err == nil:
		if _, news := v.health.Found(); news {
			v.changed(nil)
		}
	case errors.Is(err, ErrUnavailable):
		if v.health.Lost() {
			v.changed(err)
		}
	}
}
