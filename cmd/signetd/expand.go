package main

import (
	"context"
	"fmt"

	"signetd/daemon/config"
	"signetd/signer"
)

// expand returns the versions that one entry of the config stands for, the newest
// first: itself, unless its ref is one of a backend's that names several. Each
// becomes active when it was made, or with the entry if that is later.
//
// While its backend is away an entry stands for what it last did in this process, so
// that the JWKS loses nothing. If that is not known it is left as it is: opened late
// it is the newest version, and a reload brings the others.
func (b *builder) expand(ctx context.Context, at, name string, vc config.Version) ([]config.Version, error) {
	backend, ok := b.backends[vc.Backend].(signer.Expander)
	if !ok || len(vc.Refs) > 0 {
		return []config.Version{vc}, nil
	}
	expanded, err := b.lookUp(ctx, backend, vc)
	switch {
	case err != nil && !b.toleratesAway(ctx, err):
		return nil, b.At(at+".ref", fmt.Errorf("key %q: %w", name, err))
	case err != nil:
		expanded = b.known.expansion(vc.Places()[0])
	default:
		b.known.expandsTo(vc.Places()[0], expanded)
	}
	if len(expanded) == 0 {
		return []config.Version{vc}, nil
	}
	if len(expanded) > 1 && vc.KID != "" {
		return nil, b.Invalid(at+".kid", "the ref names %d versions, which cannot have one kid: list them one by one", len(expanded))
	}
	var versions []config.Version
	for _, e := range expanded {
		one := vc
		one.Ref = e.Ref
		if e.NotBefore.After(one.NotBefore.Time) {
			one.NotBefore.Time = e.NotBefore
		}
		versions = append(versions, one)
	}
	return versions, nil
}

// lookUp asks the backend, unless it is known to be away.
func (b *builder) lookUp(ctx context.Context, backend signer.Expander, vc config.Version) ([]signer.Expanded, error) {
	if err := b.away[vc.Backend]; err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return backend.Expand(limited, vc.Ref)
}

func (p *publicKeys) expandsTo(at config.Place, versions []signer.Expanded) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.expanded == nil {
		p.expanded = map[config.Place][]signer.Expanded{}
	}
	p.expanded[at] = versions
}

func (p *publicKeys) expansion(at config.Place) []signer.Expanded {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.expanded[at]
}

// dated is the config of a version whose key was opened late by a ref of several: it
// is active from when it was made, too.
func dated(config signer.VersionConfig, key signer.Key) signer.VersionConfig {
	if d, ok := key.(signer.Dated); ok && d.NotBefore().After(config.NotBefore) {
		config.NotBefore = d.NotBefore()
	}
	return config
}
