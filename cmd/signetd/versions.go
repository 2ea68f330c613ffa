package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"signetd/daemon/config"
	"signetd/signer"
	"signetd/signer/p256"
)

// A plan is a version as the config has it.
type plan struct {
	keyName string
	at      string // where in the config
	refs    []config.Place
	refsAt  []string // where in the config each of refs is
	config  signer.VersionConfig
}

// ring opens every key.
func (b *builder) ring(ctx context.Context) (*signer.Ring, error) {
	for i, c := range b.Keys {
		named := signer.NamedKey{Name: c.Name}
		for j, vc := range c.Versions {
			at := fmt.Sprintf("$.keys[%d].versions[%d]", i, j)
			expanded, err := b.expand(ctx, at, c.Name, vc)
			if err != nil {
				return nil, err
			}
			for _, one := range expanded {
				v, err := b.openVersion(ctx, at, i, len(named.Versions), one)
				if err != nil {
					return nil, err
				}
				named.Versions = append(named.Versions, v)
			}
		}
		b.keys = append(b.keys, named)
		if err := b.stillServed(i); err != nil {
			return nil, err
		}
	}
	ring, err := signer.NewRing(b.keys)
	if err != nil {
		return nil, b.At("$.keys", err)
	}
	return ring, nil
}

// openVersion makes version j of key i and notes what of it is missing.
func (b *builder) openVersion(ctx context.Context, at string, i, j int, vc config.Version) (*signer.Version, error) {
	p, err := b.plan(at, b.Keys[i], vc)
	if err != nil {
		return nil, err
	}
	v, missing, err := b.version(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, m := range missing {
		m.key, m.version = i, j
	}
	b.pending = append(b.pending, missing...)
	return v, nil
}

// stillServed returns an error if a reload would leave key i without a version that
// was opened, and it has one now, or is new: the config that is in force is better.
func (b *builder) stillServed(i int) error {
	k := b.keys[i]
	if b.before == nil || len(k.Versions) == 0 || !k.Missing() {
		return nil
	}
	if old, err := b.before.Key(k.Name); err == nil && old.Missing() {
		return nil
	}
	n := slices.IndexFunc(b.pending, func(p *pending) bool { return p.key == i })
	return b.pending[n].err
}

// plan reads a version and opens nothing.
func (b *builder) plan(at string, c config.Key, vc config.Version) (*plan, error) {
	p := &plan{keyName: c.Name, at: at, refs: vc.Places(), refsAt: []string{at}}
	if len(vc.Refs) > 0 {
		if vc.Backend != "" || vc.Ref != "" {
			return nil, b.Invalid(at+".refs", "either refs, or backend and ref, but not both")
		}
		p.refsAt = nil
		for i := range vc.Refs {
			p.refsAt = append(p.refsAt, fmt.Sprintf("%s.refs[%d]", at, i))
		}
	}
	for i, ref := range p.refs {
		if _, ok := b.backends[ref.Backend]; !ok {
			return nil, b.Invalid(p.refsAt[i]+".backend", "no backend is named %.64q", ref.Backend)
		}
		if first := slices.Index(p.refs, ref); first < i {
			return nil, b.Twice(p.refsAt[i], p.refsAt[first])
		}
	}
	p.config = signer.VersionConfig{
		KID: vc.KID, Algs: c.Algs, NotBefore: vc.NotBefore.Time, Places: b.placesOf(p),
		SkipVerify: c.Verify != nil && !*c.Verify, VerifyES256: p256.Verifier,
	}
	return p, nil
}

// version opens every place of p and makes a version of those that answer. The
// others are missing.
func (b *builder) version(ctx context.Context, p *plan) (*signer.Version, []*pending, error) {
	keys := make([]signer.Key, len(p.refs))
	var missing []*pending
	for i := range p.refs {
		var err error
		if keys[i], err = b.open(ctx, p, i); err == nil {
			continue
		}
		if !b.toleratesAway(ctx, err) {
			return nil, nil, err
		}
		missing = append(missing, &pending{plan: p, place: i, err: err})
	}
	v, unjoined, err := b.assemble(ctx, p, keys)
	return v, append(missing, unjoined...), err
}

// open opens the key in place i of p and uses it once with each algorithm.
func (b *builder) open(ctx context.Context, p *plan, i int) (signer.Key, error) {
	ref := p.refs[i]
	if err := b.away[ref.Backend]; err != nil {
		return nil, b.At(p.refsAt[i], fmt.Errorf("key %q: %w", p.keyName, err))
	}
	limited, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	at := p.refsAt[i] + ".ref"
	key, err := b.backends[ref.Backend].OpenKey(limited, ref.Ref)
	if err == nil {
		at = p.refsAt[i]
		err = b.prove(limited, p, ref.Backend, key)
	}
	if err != nil {
		if b.toleratesAway(ctx, err) {
			b.away[ref.Backend] = err
		}
		return nil, b.At(at, fmt.Errorf("key %q: %w", p.keyName, err))
	}
	b.known.add(seenAt{p.keyName, ref}, key.Public())
	return key, nil
}

func (b *builder) prove(ctx context.Context, p *plan, backend string, key signer.Key) error {
	config := p.config
	config.Places = []signer.PlaceConfig{{Backend: backend, Observe: b.metrics.ObserveBackend(backend)}}
	v, err := signer.NewVersion(key, config)
	if err != nil {
		return err
	}
	return v.Prove(ctx)
}

// assemble makes the version of p out of its keys, of which some may be nil. The public
// half is that of the first key there is, or else what it was when the key was last open.
func (b *builder) assemble(ctx context.Context, p *plan, keys []signer.Key) (*signer.Version, []*pending, error) {
	config := p.config
	for i, ref := range p.refs {
		if keys[i] != nil {
			config.Public = keys[i].Public()
			break
		}
		if config.Public == nil {
			config.Public = b.known.get(seenAt{p.keyName, ref})
		}
	}
	if len(keys) == 1 {
		config = dated(config, keys[0])
	}
	v, err := signer.NewVersion(nil, config)
	if err != nil {
		return nil, nil, b.At(p.at, fmt.Errorf("key %q: %w", p.keyName, err))
	}
	var missing []*pending
	for i, key := range keys {
		if key == nil {
			continue
		}
		err := v.Join(ctx, i, key)
		if err != nil {
			err = b.At(p.refsAt[i], fmt.Errorf("key %q: %w", p.keyName, err))
			if !b.toleratesAway(ctx, err) {
				return nil, nil, err
			}
			missing = append(missing, &pending{plan: p, place: i, err: err})
		}
	}
	return v, missing, nil
}

// placesOf returns what the places of p report to.
func (b *builder) placesOf(p *plan) (places []signer.PlaceConfig) {
	for _, ref := range p.refs {
		places = append(places, signer.PlaceConfig{
			Backend:  ref.Backend,
			Observe:  b.metrics.ObserveBackend(ref.Backend),
			Changed:  func(err error) { b.changed(p, ref.Backend, err) },
			Failover: func() { b.metrics.ObserveFailover(p.keyName, ref.Backend) },
		})
	}
	return places
}

// changed logs that a version's backend went away, or is back.
func (b *builder) changed(p *plan, backend string, err error) {
	if err == nil {
		b.log.Info("backend is back", "key", p.keyName, "backend", backend)
		return
	}
	b.log.Warn("backend away: its requests go to another place or version of the key, if there is one", "key", p.keyName, "backend", backend, "err", err)
}

// take puts a key that was opened late in its place: of its version if that is in the
// ring, or of a new version in a new ring.
func (b *builder) take(ctx context.Context, m *pending, key signer.Key, swap func(*signer.Ring)) error {
	if old := b.keys[m.key].Versions[m.version]; old.Public() != nil {
		err := old.Join(ctx, m.place, key)
		if err == nil {
			return nil
		}
		if !old.Missing() || !errors.Is(err, signer.ErrInvalid) {
			return b.At(m.refsAt[m.place], fmt.Errorf("key %q: %w", m.keyName, err))
		}
		// It is not the key that was there before this config: the config's is right.
	}
	keys := make([]signer.Key, len(m.refs))
	keys[m.place] = key
	v, _, err := b.assemble(ctx, m.plan, keys)
	if err != nil {
		return err
	}
	return b.swapVersion(m, v, swap)
}

func (b *builder) swapVersion(m *pending, v *signer.Version, swap func(*signer.Ring)) error {
	keys := slices.Clone(b.keys)
	keys[m.key].Versions = slices.Clone(keys[m.key].Versions)
	keys[m.key].Versions[m.version] = v
	ring, err := signer.NewRing(keys)
	if err != nil {
		return b.At("$.keys", err)
	}
	b.keys = keys
	swap(ring)
	return nil
}
