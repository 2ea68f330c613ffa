// Package keyring opens the keys that a config names, waits for those that are away, and
// hands each ring that has more keys to the service.
//
// A backend or a key that does not answer costs itself alone: its places are missing, and
// are opened as soon as they answer. What the operator has to mend, such as a PIN that is
// refused or a ref that names no key, is an error of the whole config. [signer.Passing]
// tells one from the other.
//
// The package knows no kind of backend: the function that opens one is handed in.
package keyring

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

const (
	// openTimeout is how long one backend, or one key, may take to open. After that it is
	// away: it must not hold up the others.
	openTimeout = 10 * time.Second
	// closeTimeout is how long the backends of a config that failed may take to close.
	closeTimeout = 5 * time.Second
)

// A Backend is a backend that a config names.
type Backend struct {
	Name string
	At   string // its place in the config, such as "$.backends[0]"
	// Open opens it. Errors are those of opening a [signer.Backend].
	Open func(context.Context) (signer.Backend, error)
}

// A Keyring opens one config after the other in the life of a process. It remembers the
// public halves of keys that were open once, so that a version whose backend is away at a
// reload stays in the JWKS. It is safe for concurrent use.
type Keyring struct {
	metrics *daemon.Metrics
	log     *slog.Logger

	mu       sync.Mutex // guards what follows
	public   map[placeOfKey]any
	expanded map[config.Place][]signer.Expanded
}

// placeOfKey is where a config has a key.
type placeOfKey struct {
	key string
	config.Place
}

// New returns a keyring that reports to metrics and log.
func New(metrics *daemon.Metrics, log *slog.Logger) *Keyring {
	return &Keyring{
		metrics: metrics, log: log,
		public: map[placeOfKey]any{}, expanded: map[config.Place][]signer.Expanded{},
	}
}

// Open opens the backends and keys of f, and uses each key once with each of its
// algorithms. A version that is away is in the ring all the same, as missing, and the
// setup's Finish opens it later.
//
// served is the ring that is in use now, or nil at start. A config that would leave a key
// of it without any version that is open is refused: the config in use serves better.
//
// If Open fails, it closes what it has opened.
func (k *Keyring) Open(ctx context.Context, f *config.File, backends []Backend, served *signer.Ring) (daemon.Setup, error) {
	return k.generation(f, served).open(ctx, backends)
}

// OpenAll is [Keyring.Open] for a config of which nothing may be missing. It logs nothing.
func (k *Keyring) OpenAll(ctx context.Context, f *config.File, backends []Backend) (daemon.Setup, error) {
	g := k.generation(f, nil)
	g.strict, g.log = true, slog.New(slog.DiscardHandler)
	return g.open(ctx, backends)
}

// A generation is the keys of one config while they are being opened. One goroutine uses
// it at a time: that of Open, and after that the one that runs Finish.
type generation struct {
	// These are set at the start and never again.
	keyring *Keyring
	log     *slog.Logger
	file    *config.File
	served  *signer.Ring // nil at start
	strict  bool         // what is away is an error, as everything else is

	backends map[string]signer.Backend
	keys     []signer.NamedKey
	late     []*lateBackend
	missing  []*missingPlace
	round    round
}

func (k *Keyring) generation(f *config.File, served *signer.Ring) *generation {
	return &generation{keyring: k, log: k.log, file: f, served: served, backends: map[string]signer.Backend{}, round: newRound()}
}

func (g *generation) open(ctx context.Context, backends []Backend) (setup daemon.Setup, err error) {
	// A mistake in a grant must not cost a login, so what needs no backend comes first.
	if setup, err = g.file.Setup(); err != nil {
		return setup, err
	}

	setup.Backends = g.backends
	defer func() {
		if err != nil {
			err = errors.Join(err, closeWithin(&setup, closeTimeout))
		}
	}()
	for _, b := range backends {
		open, err := g.openBackend(ctx, b)
		if err != nil {
			return setup, g.file.At(b.At, fmt.Errorf("backend %q: %w", b.Name, err))
		}
		g.backends[b.Name] = open
	}

	for i, key := range g.file.Keys {
		named, err := g.openKey(ctx, i, key)
		if err != nil {
			return setup, err
		}
		g.keys = append(g.keys, named)
		if err := g.stillServed(i); err != nil {
			return setup, err
		}
	}
	if setup.Ring, err = signer.NewRing(g.keys); err != nil {
		return setup, g.file.At("$.keys", err)
	}

	for _, m := range g.missing {
		g.log.ErrorContext(ctx, "version missing: it is opened when its backend answers", "key", m.keyName, "backend", m.backend(), "err", m.err)
	}
	if len(g.missing)+len(g.late) > 0 {
		setup.Finish = g.finish
	}
	return setup, nil
}

// openBackend opens b, or returns a backend that is opened later.
func (g *generation) openBackend(ctx context.Context, b Backend) (signer.Backend, error) {
	limited, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	open, err := b.Open(limited)
	if err == nil || !g.tolerates(ctx, err) {
		return open, err
	}

	g.log.ErrorContext(ctx, "backend away", "backend", b.Name, "err", err)
	late := &lateBackend{config: b, err: err}
	g.late = append(g.late, late)
	g.round.away[b.Name] = err
	return late, nil
}

// tolerates reports whether err, of opening something, only makes that missing for now.
func (g *generation) tolerates(ctx context.Context, err error) bool {
	return !g.strict && signer.Passing(err) && ctx.Err() == nil
}

// stillServed returns an error if a reload would leave key i without a version that is
// open, and the key has one now or is new: the config in use serves better.
func (g *generation) stillServed(i int) error {
	k := g.keys[i]
	if g.served == nil || len(k.Versions) == 0 || !k.Missing() {
		return nil
	}
	if old, err := g.served.Key(k.Name); err == nil && old.Missing() {
		return nil
	}

	for _, m := range g.missing {
		if m.key == i {
			return m.err
		}
	}
	return nil
}

// closeWithin closes the backends of s. One that does not answer is left open: it must
// hold up neither the error nor the reload after this one.
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

// LogFound logs which key the backends have found for each version of ring, where a ref
// leaves that open: an alias of a cloud KMS, for example.
func (k *Keyring) LogFound(ctx context.Context, ring *signer.Ring) {
	for _, key := range ring.Keys() {
		for _, v := range key.Versions {
			logFound(ctx, k.log, key.Name, v)
		}
	}
}

func logFound(ctx context.Context, logger *slog.Logger, key string, v *signer.Version) {
	if found := v.Describe(); found != "" {
		logger.InfoContext(ctx, "key opened", "key", key, "kid", v.KID(), "backend", v.Backend(), "found", found)
	}
}

// remember keeps the public half of the key at place.
func (k *Keyring) remember(at placeOfKey, public any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.public[at] = public
}

// remembered returns the public half of the key that was last open at place, or nil.
func (k *Keyring) remembered(at placeOfKey) any {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.public[at]
}
