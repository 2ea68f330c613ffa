package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"signetd/backends"
	"signetd/daemon"
	"signetd/signer"
)

// openTimeout is how long one backend, or one key, may take to open. What takes
// longer is away: it must not hold up the others.
const openTimeout = 10 * time.Second

// A builder makes the setup of a config, and goes on to open what was away then.
type builder struct {
	*document
	metrics *daemon.Metrics
	log     *slog.Logger
	// lenient takes a backend that is away for a version that is missing. Without it
	// that is an error, as every other is.
	lenient bool
	before  *signer.Ring // what is served now; nil at start
	known   *publicKeys  // from setups before; nil for none

	backends map[string]signer.Backend
	away     map[string]error // backends that did not answer in this round, which are not asked again in it
	keys     []signer.NamedKey
	late     []*lateBackend
	pending  []*pending
}

// A pending is a place of a version that was not opened.
type pending struct {
	*plan
	place        int
	key, version int   // where in builder.keys
	err          error // why
}

// build opens the backends, opens and proves every key, and makes the policy, of a
// config of which nothing may be missing.
func (d *document) build(ctx context.Context, metrics *daemon.Metrics) (daemon.Setup, error) {
	return (&builder{document: d, metrics: metrics, log: slog.New(slog.DiscardHandler)}).build(ctx)
}

// build opens the backends, opens and proves every key, and resolves the users
// of the grants. What it opened is closed again if anything is wrong.
func (b *builder) build(ctx context.Context) (setup daemon.Setup, err error) {
	b.backends, b.away = map[string]signer.Backend{}, map[string]error{}
	if b.known == nil {
		b.known = &publicKeys{}
	}
	setup.Backends = b.backends
	defer func() {
		if err != nil {
			err = errors.Join(err, closeWithin(&setup, closeTimeout))
		}
	}()
	rules, err := b.keyRules()
	if err != nil {
		return setup, err
	}
	if rules, err = b.trust(&setup, rules); err != nil {
		return setup, err
	}
	if setup.Policy, err = b.policy(rules); err != nil {
		return setup, err
	}
	if err := b.openBackends(ctx); err != nil {
		return setup, err
	}
	if setup.Ring, err = b.ring(ctx); err != nil {
		return setup, err
	}
	for _, p := range b.pending {
		b.log.ErrorContext(ctx, "version missing: it is opened when its backend answers", "key", p.keyName, "backend", p.refs[p.place].Backend, "err", p.err)
	}
	if len(b.pending) > 0 || len(b.late) > 0 {
		setup.Finish = b.finish
	}
	return setup, nil
}

func (b *builder) openBackends(ctx context.Context) error {
	for i, c := range b.Backends {
		at := fmt.Sprintf("$.backends[%d]", i)
		if _, ok := b.backends[c.Name]; ok || c.Name == "" {
			return b.at(at+".name", fmt.Errorf("%w: %q is empty or there twice", signer.ErrInvalid, c.Name))
		}
		if c.Software != nil && !b.InsecureSoftwareKeys {
			return b.at(at+".software", fmt.Errorf("%w: software keys are not protected by hardware; if that is meant, say insecure_software_keys: true", signer.ErrInvalid))
		}
		open, err := b.openBackend(ctx, c)
		if err != nil {
			return b.at(at, fmt.Errorf("backend %q: %w", c.Name, err))
		}
		b.backends[c.Name] = open
	}
	return nil
}

// openBackend opens a backend, or has it opened later.
func (b *builder) openBackend(ctx context.Context, c backends.Config) (signer.Backend, error) {
	limited, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	open, err := backends.Open(limited, c)
	if err == nil || !b.toleratesAway(ctx, err) {
		return open, err
	}
	b.log.ErrorContext(ctx, "backend away", "backend", c.Name, "err", err)
	l := &lateBackend{config: c, err: err}
	b.late = append(b.late, l)
	b.away[c.Name] = err
	return l, nil
}

// toleratesAway reports whether err, of opening something, only means that it is
// missing for now.
func (b *builder) toleratesAway(ctx context.Context, err error) bool {
	return b.lenient && signer.Passing(err) && ctx.Err() == nil
}

// publicKeys are the public halves of keys that were open once in this process, so
// that a version whose backend is away at a reload stays in the JWKS. It is safe for
// concurrent use.
type publicKeys struct {
	mu       sync.Mutex
	seen     map[seenAt]any
	expanded map[RefConfig][]signer.Expanded // what refs of several versions stood for
}

// seenAt is where the config has a key.
type seenAt struct {
	key string
	RefConfig
}

func (p *publicKeys) add(at seenAt, public any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = map[seenAt]any{}
	}
	p.seen[at] = public
}

func (p *publicKeys) get(at seenAt) any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[at]
}
