package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"signetd/daemon/api"
	"signetd/signer"
)

// readyFor is how long an answer about readiness holds. Anybody who can open the
// socket may ask, and a question is a round trip to each backend.
const readyFor = time.Second

type readiness struct {
	mu       sync.Mutex // held while the backends are asked: who asks meanwhile gets the same answer
	at       time.Time
	of       *generation
	backends map[string]string
}

// Ready tells whether every key has a version that can be used, and whether each
// backend answers, as of a second ago at most. It names keys only to a peer with a
// grant on them. It has no audit record: it uses no key.
func (s *Service) Ready(ctx context.Context, r Request) *api.Ready {
	g := s.enter()
	defer g.leave()
	ready := &api.Ready{Ready: true, Backends: s.ask(ctx, g)}
	now := time.Now()
	for _, k := range g.ring.Load().Keys() {
		ready.Ready = ready.Ready && usable(k, now, ready.Backends)
		missing := missingOf(k)
		ready.MissingVersions += len(missing)
		if g.Policy.Check(r.Peer, api.OpList, k.Name) == nil {
			ready.Missing = append(ready.Missing, missing...)
		}
	}
	return ready
}

// usable reports whether a key has a version whose time has come, in a backend that
// has opened it and answers. A key of which no version's time has come is as its
// config wants it.
func usable(k signer.NamedKey, now time.Time, backends map[string]string) bool {
	started := false
	for _, v := range k.Versions {
		if v.NotBefore().After(now) {
			continue
		}
		started = true
		if slices.ContainsFunc(v.Places(), func(p signer.Place) bool {
			return p.State != signer.StateMissing && backends[p.Backend] == "ok"
		}) {
			return true
		}
	}
	return !started
}

func missingOf(k signer.NamedKey) (list []api.MissingVersion) {
	for _, v := range k.Versions {
		for _, p := range v.Places() {
			if p.State == signer.StateMissing {
				list = append(list, api.MissingVersion{Key: k.Name, KID: v.KID(), Backend: p.Backend, NotBefore: notBefore(v)})
			}
		}
	}
	return list
}

// ask returns the code of what each backend of g says of itself.
func (s *Service) ask(ctx context.Context, g *generation) map[string]string {
	s.ready.mu.Lock()
	defer s.ready.mu.Unlock()
	if s.ready.backends == nil || s.ready.of != g || time.Since(s.ready.at) > readyFor {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
		defer cancel()
		s.ready.backends, s.ready.of, s.ready.at = ping(ctx, g.Backends), g, time.Now()
	}
	return s.ready.backends
}

// ping pings all backends at once.
func ping(ctx context.Context, backends map[string]signer.Backend) map[string]string {
	codes := map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, b := range backends {
		wg.Go(func() { // ends with its Ping, which obeys ctx
			code := signer.Code(b.Ping(ctx))
			mu.Lock()
			defer mu.Unlock()
			codes[name] = code
		})
	}
	wg.Wait()
	return codes
}
