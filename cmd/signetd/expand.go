package main

import (
	"context"
	"fmt"
	"time"

	"signetd/signer"
)

// expand returns the versions that one entry of the config stands for, the newest
// first: itself, unless its ref is one of a backend's that names several. Each
// becomes active when it was made, or with the entry if that is later.
//
// An entry whose backend is away is left as it is: what its ref stands for when it
// is opened late is the newest version, and a reload brings the others.
func (b *builder) expand(ctx context.Context, at, name string, vc VersionConfig) ([]VersionConfig, error) {
	backend, ok := b.backends[vc.Backend].(signer.Expander)
	if !ok || len(vc.Refs) > 0 || b.away[vc.Backend] != nil {
		return []VersionConfig{vc}, nil
	}
	limited, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	expanded, err := backend.Expand(limited, vc.Ref)
	switch {
	case err != nil && b.toleratesAway(ctx, err):
		return []VersionConfig{vc}, nil // it is away when it is opened, too
	case err != nil:
		return nil, b.at(at+".ref", fmt.Errorf("key %q: %w", name, err))
	case len(expanded) > 1 && vc.KID != "":
		return nil, b.at(at+".kid", fmt.Errorf("%w: the ref names %d versions, which cannot have one kid: list them one by one", signer.ErrInvalid, len(expanded)))
	}
	var versions []VersionConfig
	for _, e := range expanded {
		one := vc
		if one.Ref = e.Ref; !e.NotBefore.IsZero() {
			one.NotBefore = later(vc.NotBefore, e.NotBefore)
		}
		versions = append(versions, one)
	}
	return versions, nil
}

// later is the later of a time in a config, if it is one, and of made. That it is
// none is found when the version is planned.
func later(config string, made time.Time) string {
	if config != "" {
		if t, err := time.Parse(time.RFC3339, config); err != nil || t.After(made) {
			return config
		}
	}
	return made.Format(time.RFC3339Nano)
}
