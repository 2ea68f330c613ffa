package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"signetd/daemon/api"
	"signetd/signer"
)

// readyFor is how long an answer about readiness holds. Anybody who can open the socket may
// ask, and each question is a round trip to every backend.
const readyFor = time.Second

type readiness struct {
	mu       sync.Mutex // held while the backends are asked, so that all who ask meanwhile get one answer
	at       time.Time
	of       *generation
	backends map[string]string // by name, the code of what it answered
}

// usable reports whether a key has a version whose time has come, in a backend that has
// opened it and answers. A key whose versions all begin later counts as usable, because its
// config says so.
func usable(k signer.NamedKey, now time.Time, backends map[string]string) bool {
	begun := false
	for _, v := range k.Versions {
		if v.NotBefore().After(now) {
			continue
		}
		begun = true
		if slices.ContainsFunc(v.Places(), func(p signer.Place) bool {
			return p.State != signer.StateMissing && backends[p.Backend] == "ok"
		}) {
			return true
		}
	}
	return !begun
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

// notBefore is the time before which v is not active, or nil.
func notBefore(v *signer.Version) *time.Time {
	if t := v.NotBefore(); !t.IsZero() {
		return &t
	}
	return nil
}

// ask returns, by name, the code of what each backend of g says of itself, within timeout.
func (r *readiness) ask(ctx context.Context, g *generation, timeout time.Duration) map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.backends != nil && r.of == g && time.Since(r.at) <= readyFor {
		return r.backends
	}

	// The answer is for all who ask, and must not depend on the patience of the first.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	codes := map[string]string{}
	var mu sync.Mutex // guards codes
	var asked sync.WaitGroup
	for name, b := range g.setup.Backends {
		asked.Go(func() { // ends with its Ping, which obeys ctx
			code := signer.Code(b.Ping(ctx))
			mu.Lock()
			defer mu.Unlock()
			codes[name] = code
		})
	}
	asked.Wait()

	r.backends, r.of, r.at = codes, g, time.Now()
	return codes
}
