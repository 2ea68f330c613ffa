package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/signer"
)

// Keys lists the keys on which the peer has a grant, in the order of the config.
// A peer without any is denied.
func (s *Service) Keys(ctx context.Context, r Request) (*api.Keys, error) {
	return do(ctx, s, r, api.OpList, "", func(_ context.Context, c *call) (*api.Keys, error) {
		list := &api.Keys{Keys: []api.Key{}}
		for _, k := range c.Ring.Keys() {
			if c.allow(api.OpList, k.Name) == nil {
				list.Keys = append(list.Keys, c.describe(k))
			}
		}
		if len(list.Keys) == 0 {
			return nil, c.seesNothing()
		}
		return list, nil
	})
}

// seesNothing denies a list of nothing: it would be an answer, and so no refusal
// that the brake could count.
func (c *call) seesNothing() error {
	return fmt.Errorf("%w: no grant lets uid %d see a key", signer.ErrDenied, c.peer.UID)
}

// Key describes one key.
func (s *Service) Key(ctx context.Context, r Request, name string) (*api.Key, error) {
	return do(ctx, s, r, api.OpList, name, func(_ context.Context, c *call) (*api.Key, error) {
		if err := c.allow(api.OpList, name); err != nil {
			return nil, err
		}
		k, err := c.Ring.Key(name)
		if err != nil {
			return nil, err
		}
		key := c.describe(k)
		return &key, nil
	})
}

// JWKS returns the public keys of the keys on which the peer has a grant. A peer
// without any is denied.
func (s *Service) JWKS(ctx context.Context, r Request) (*signer.JWKSet, error) {
	return do(ctx, s, r, api.OpList, "", func(_ context.Context, c *call) (*signer.JWKSet, error) {
		set := c.Ring.JWKS(c.Policy.Keys(c.peer, api.OpList)...)
		if len(set.Keys) == 0 {
			return nil, c.seesNothing()
		}
		return &set, nil
	})
}

func (c *call) describe(k signer.NamedKey) api.Key {
	active, err := k.Active(c.now)
	if err != nil {
		active = nil // none yet
	}
	key := api.Key{Name: k.Name, Use: string(k.Versions[0].Use())}
	for _, alg := range k.Versions[0].Algs() {
		key.Algs = append(key.Algs, string(alg))
	}
	for _, op := range c.Policy.Ops(c.peer, k.Name) {
		key.Ops = append(key.Ops, string(op))
	}
	for _, v := range k.Versions {
		kv := api.KeyVersion{KID: v.KID(), Active: v == active, Backend: v.Backend(), Public: v.JWK(), NotBefore: notBefore(v)}
		places := v.Places()
		best := slices.MinFunc(places, func(a, b signer.Place) int { return rank(a.State) - rank(b.State) })
		kv.State = string(best.State)
		if len(places) > 1 {
			for _, p := range places {
				kv.Places = append(kv.Places, api.KeyPlace{Backend: p.Backend, State: string(p.State)})
			}
		}
		key.Versions = append(key.Versions, kv)
	}
	return key
}

func notBefore(v *signer.Version) *time.Time {
	if t := v.NotBefore(); !t.IsZero() {
		return &t
	}
	return nil
}

// rank orders states, the best first.
func rank(s signer.State) int {
	return slices.Index([]signer.State{signer.StateOK, signer.StateAway, signer.StateMissing}, s)
}

// Reload checks the grant for a reload, runs it and records it. It may take longer than
// other requests, and nobody answers for it meanwhile: the record would say that its time
// was over, and the new config come into force all the same.
func (s *Service) Reload(ctx context.Context, r Request, reload func(context.Context) (keys int, err error)) (*api.Reloaded, error) {
	r.watch = nil
	return do(ctx, s, r, api.OpReload, "", func(ctx context.Context, c *call) (*api.Reloaded, error) {
		if err := c.allow(api.OpReload, ""); err != nil {
			return nil, err
		}
		if reload == nil {
			return nil, fmt.Errorf("%w: this daemon has no config file", signer.ErrUnsupported)
		}
		keys, err := reload(ctx)
		if err != nil {
			return nil, err
		}
		return &api.Reloaded{Keys: keys}, nil
	})
}

// RecordSignal writes the audit record of a reload that came by signal.
func (s *Service) RecordSignal(r Request, outcome error) error {
	return s.record(r, &audit.Record{Op: string(api.OpReload)}, time.Now(), outcome)
}
