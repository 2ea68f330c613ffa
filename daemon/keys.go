package daemon

import (
	"context"
	"fmt"
	"slices"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// listKeys describes the keys on which the peer has a grant, in the order of the config.
func listKeys(_ context.Context, c *call, _ *struct{}) (*api.Keys, error) {
	list := &api.Keys{Keys: []api.Key{}}
	for _, k := range c.ring.Keys() {
		if c.may(api.OpList, k.Name) == nil {
			list.Keys = append(list.Keys, c.describe(k))
		}
	}
	if len(list.Keys) == 0 {
		return nil, seesNothing(c.peer)
	}
	return list, nil
}

// grantList asks whether the peer may see any key.
func grantList(a *applicant, _ *struct{}) (string, error) {
	if a.mayAny(api.OpList) != nil {
		return "", seesNothing(a.task.request.Peer)
	}
	return "", nil
}

// seesNothing denies an empty list. As an answer it would be no refusal, and cost a peer
// without a grant nothing however often it asks.
func seesNothing(peer policy.Peer) error {
	return fmt.Errorf("%w: no grant lets uid %d see a key", signer.ErrDenied, peer.UID)
}

// getKey describes one key.
func getKey(_ context.Context, c *call, _ *string) (*api.Key, error) {
	k, err := c.ring.Key(c.key)
	if err != nil {
		return nil, err
	}
	key := c.describe(k)
	return &key, nil
}

// getJWKS returns the public keys of the keys on which the peer has a grant.
func getJWKS(_ context.Context, c *call, _ *struct{}) (*signer.JWKSet, error) {
	set := c.ring.JWKS(c.gen.setup.Policy.Keys(c.peer, api.OpList)...)
	if len(set.Keys) == 0 {
		return nil, seesNothing(c.peer)
	}
	return &set, nil
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
	for _, op := range c.gen.setup.Policy.Ops(c.peer, k.Name) {
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

// rank orders states, the best first.
func rank(s signer.State) int {
	return slices.Index([]signer.State{signer.StateOK, signer.StateAway, signer.StateMissing}, s)
}

// decodeReload reads the body of a reload, which has no members and may be left out.
func decodeReload(q *Request) (*api.Reload, error) {
	if q.BodyErr != nil || len(q.Body) == 0 {
		return nil, q.BodyErr
	}
	body := new(api.Reload)
	return body, decode(q.Body, body)
}

// reloadConfig has the config read again. It may take longer than other requests, and so it is
// unsupervised: a watchdog would record that its time was over, and the new config would
// come into force all the same.
func reloadConfig(ctx context.Context, c *call, _ *api.Reload) (*api.Reloaded, error) {
	read := c.task.service.reload
	if read == nil {
		return nil, fmt.Errorf("%w: this daemon has no config file", signer.ErrUnsupported)
	}
	keys, err := read(ctx)
	if err != nil {
		return nil, err
	}
	return &api.Reloaded{Keys: keys}, nil
}
