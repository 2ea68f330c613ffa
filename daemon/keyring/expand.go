package keyring

import (
	"context"
	"fmt"

	"signetd/daemon/config"
	"signetd/signer"
)

// expand returns the versions that one entry of the config stands for, the newest first:
// the entry itself, unless its backend has refs that name several versions. Each version
// becomes active when it was made, or with the entry if that is later.
//
// While the backend is away an entry stands for the versions that it last stood for in this
// process, so that the JWKS loses no key. If these are not known the entry stays as it is:
// opened later it is the newest version, and a reload brings the others.
func (g *generation) expand(ctx context.Context, at, key string, entry config.Version) ([]config.Version, error) {
	backend, ok := g.backends[entry.Backend].(signer.Expander)
	if !ok || len(entry.Refs) > 0 {
		return []config.Version{entry}, nil
	}

	place := entry.Places()[0]
	expanded, err := g.lookUp(ctx, backend, place)
	if err != nil && !g.tolerates(ctx, err) {
		return nil, g.file.At(at+".ref", fmt.Errorf("key %q: %w", key, err))
	}
	expanded = g.keyring.lastExpanded(place, expanded, err == nil)
	if len(expanded) == 0 {
		return []config.Version{entry}, nil
	}
	if len(expanded) > 1 && entry.KID != "" {
		return nil, g.file.Invalid(at+".kid", "the ref names %d versions, which cannot have one kid: list them one by one", len(expanded))
	}

	var versions []config.Version
	for _, e := range expanded {
		one := entry
		one.Ref = e.Ref
		if e.NotBefore.After(one.NotBefore.Time) {
			one.NotBefore.Time = e.NotBefore
		}
		versions = append(versions, one)
	}
	return versions, nil
}

// lookUp asks the backend for the versions of a ref, unless the backend is known to be
// away.
func (g *generation) lookUp(ctx context.Context, backend signer.Expander, place config.Place) ([]signer.Expanded, error) {
	if err := g.round.away[place.Backend]; err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return backend.Expand(limited, place.Ref)
}

// lastExpanded returns the versions that place stands for: now, which it remembers, if the
// backend has said so, or else those that it remembers.
func (k *Keyring) lastExpanded(place config.Place, now []signer.Expanded, said bool) []signer.Expanded {
	k.mu.Lock()
	defer k.mu.Unlock()
	if said {
		k.expanded[place] = now
	}
	return k.expanded[place]
}
