package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"signetd/daemon"
	"signetd/daemon/config"
	"signetd/signer"
)

// openTimeout is how long one backend, or one key, may take to open. What takes
// longer is away: it must not hold up the others.
const openTimeout = 10 * time.Second

// closeTimeout is how long the backends of a setup that is not used may take to close.
const closeTimeout = 5 * time.Second

// closeWithin closes the backends of s. One that does not answer is left open: it
// must hold up neither the error nor the reload after this one.
func closeWithin(s *daemon.Setup, wait time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- s.Close() }() // ends when the backends are closed
	select {
	case err := <-done:
		return err
	case <-time.After(wait):
		return errors.New("a backend does not answer and was left open")
	}
}

// An opener opens a backend that the config names.
type opener struct {
	name string
	at   string // where in the config
	open func(context.Context) (signer.Backend, error)
}

// A builder makes the setup of a config, and goes on to open what was away then.
type builder struct {
	*config.File
	openers []opener
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
	openers, err := d.openers()
	if err != nil {
		return daemon.Setup{}, err
	}
	return (&builder{File: d.File, openers: openers, metrics: metrics, log: slog.New(slog.DiscardHandler)}).build(ctx)
}

// build opens the backends, opens and proves every key, and resolves the users
// of the grants. What it opened is closed again if anything is wrong.
func (b *builder) build(ctx context.Context) (setup daemon.Setup, err error) {
	b.backends, b.away = map[string]signer.Backend{}, map[string]error{}
	if b.known == nil {
		b.known = &publicKeys{}
	}
	if setup, err = b.Setup(); err != nil {
		return setup, err
	}
	setup.Backends = b.backends
	defer func() {
		if err != nil {
			err = errors.Join(err, closeWithin(&setup, closeTimeout))
		}
	}()
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
	for _, o := range b.openers {
		open, err := b.openBackend(ctx, o)
		if err != nil {
			return b.At(o.at, fmt.Errorf("backend %q: %w", o.name, err))
		}
		b.backends[o.name] = open
	}
	return nil
}

// openBackend opens a backend, or has it opened later.
func (b *builder) openBackend(ctx context.Context, o opener) (signer.Backend, error) {
	limited, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	open, err := o.open(limited)
	if err == nil || !b.toleratesAway(ctx, err) {
		return open, err
	}
	b.log.ErrorContext(ctx, "backend away", "backend", o.name, "err", err)
	l := &lateBackend{opener: o, err: err}
	b.late = append(b.late, l)
	b.away[o.name] = err
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
	expanded map[config.Place][]signer.Expanded // what refs of several versions stood for
}

// seenAt is where the config has a key.
type seenAt struct {
	key string
	config.Place
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
