package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"signetd/signer"
)

// logEvery is how often the log repeats that a place is still missing, where the reason is
// the same but for its words: a cloud puts a new request id into each error.
const logEvery = time.Minute

// A missingPlace is a place of a version that has no key yet.
type missingPlace struct {
	*plan
	place        int   // in plan.places
	key, version int   // in generation.keys
	err          error // why, as it was last logged
	logged       time.Time
}

func (m *missingPlace) backend() string { return m.places[m.place].Backend }

// finish implements [signetd/daemon.Setup.Finish]: it opens what is missing until nothing
// is, or ctx ends.
func (g *generation) finish(ctx context.Context, swap func(*signer.Ring)) {
	var all signer.Presence
	all.Missing()
	for all.Wait(ctx.Done()) {
		some := g.look(ctx, swap)
		switch {
		case len(g.missing)+len(g.late) == 0:
			return
		case some:
			all.Missing() // what came back may bring more with it, so the pauses begin anew
		default:
			all.Lost()
		}
	}
}

// look tries all that is missing once, and reports whether anything was opened.
func (g *generation) look(ctx context.Context, swap func(*signer.Ring)) bool {
	g.round = newRound()
	before := len(g.missing) + len(g.late)

	g.late = slices.DeleteFunc(g.late, func(l *lateBackend) bool {
		if err := l.open(ctx); err != nil {
			g.round.away[l.config.Name] = err
			return false
		}
		g.log.InfoContext(ctx, "backend is there", "backend", l.config.Name)
		return true
	})

	g.missing = slices.DeleteFunc(g.missing, func(m *missingPlace) bool { return g.lookFor(ctx, m, swap) })
	if len(g.missing) > 1 {
		// Another place comes first in the next round: a key that takes all the time of a
		// round, or has its service throttle us, must not always spoil it for the others.
		g.missing = append(g.missing[1:], g.missing[0])
	}
	return len(g.missing)+len(g.late) < before
}

// lookFor tries one place, logs what is new about it, and reports whether it is open.
func (g *generation) lookFor(ctx context.Context, m *missingPlace, swap func(*signer.Ring)) bool {
	key, err := g.openPlace(ctx, m.plan, m.place)
	if err == nil {
		err = g.take(ctx, m, key, swap)
	}
	if ctx.Err() != nil {
		return false
	}
	if err == nil {
		v := g.keys[m.key].Versions[m.version]
		g.log.InfoContext(ctx, "version is there", "key", m.keyName, "kid", v.KID(), "backend", m.backend())
		logFound(ctx, g.log, m.keyName, v)
		return true
	}

	passing := signer.Passing(err)
	if err.Error() == m.err.Error() || passing == signer.Passing(m.err) && time.Since(m.logged) < logEvery {
		return false
	}
	m.err, m.logged = err, time.Now()
	if passing {
		g.log.WarnContext(ctx, "version still missing", "key", m.keyName, "backend", m.backend(), "err", err)
	} else {
		g.log.ErrorContext(ctx, "version refused: mend the config or the backend", "key", m.keyName, "backend", m.backend(), "err", err)
	}
	return false
}

// take puts a key that was opened late in its place: of the version in the ring if that
// is the same key, or else of a new version in a new ring.
func (g *generation) take(ctx context.Context, m *missingPlace, key signer.Key, swap func(*signer.Ring)) error {
	if old := g.keys[m.key].Versions[m.version]; old.Public() != nil {
		err := old.Join(ctx, m.place, key)
		if err == nil {
			return nil
		}
		if !old.Missing() || !errors.Is(err, signer.ErrInvalid) {
			return g.file.At(m.placesAt[m.place], fmt.Errorf("key %q: %w", m.keyName, err))
		}
		// The public half was only remembered, from another key at this place: the key
		// that the config names now is right.
	}

	opened := make([]signer.Key, len(m.places))
	opened[m.place] = key
	v, _, err := g.assemble(ctx, m.plan, opened)
	if err != nil {
		return err
	}

	keys := slices.Clone(g.keys)
	keys[m.key].Versions = slices.Clone(keys[m.key].Versions)
	keys[m.key].Versions[m.version] = v
	ring, err := signer.NewRing(keys)
	if err != nil {
		return g.file.At("$.keys", err)
	}
	g.keys = keys
	swap(ring)
	return nil
}

// A lateBackend is a backend that was away when the config was opened. It is safe for
// concurrent use, but for open.
type lateBackend struct {
	config  Backend
	opening chan error // while it is being opened; used by open alone

	mu      sync.Mutex     // guards what follows
	backend signer.Backend // nil until it is open
	err     error          // why it is not open
	closed  bool
}

var (
	_ signer.Backend = (*lateBackend)(nil)
	_ signer.Metered = (*lateBackend)(nil)
)

// open opens the backend, unless it is open. A backend that hangs is not opened a second
// time meanwhile: the next open waits for the same attempt. ctx must live as long as the
// setup.
func (l *lateBackend) open(ctx context.Context) error {
	if l.opening == nil {
		opening := make(chan error, 1)
		go func() { opening <- l.openOnce(ctx) }() // ends with ctx, or before
		l.opening = opening
	}

	select {
	case err := <-l.opening:
		l.opening = nil
		return err
	case <-time.After(openTimeout):
		return fmt.Errorf("%w: backend %q takes longer than %v to open", signer.ErrUnavailable, l.config.Name, openTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *lateBackend) openOnce(ctx context.Context) error {
	b, err := l.config.Open(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.err = err
		return err
	}
	if l.closed {
		return b.Close()
	}
	l.backend = b
	return nil
}

// opened returns the backend, or why there is none yet.
func (l *lateBackend) opened() (signer.Backend, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.backend, l.err
}

// OpenKey implements [signer.Backend].
func (l *lateBackend) OpenKey(ctx context.Context, ref string) (signer.Key, error) {
	b, err := l.opened()
	if b == nil {
		return nil, err
	}
	return b.OpenKey(ctx, ref)
}

// Ping implements [signer.Backend].
func (l *lateBackend) Ping(ctx context.Context) error {
	b, err := l.opened()
	if b == nil {
		return err
	}
	return b.Ping(ctx)
}

// Metrics implements [signer.Metered]. There are none before the backend is open.
func (l *lateBackend) Metrics() []signer.Metric {
	b, _ := l.opened()
	if m, ok := b.(signer.Metered); ok {
		return m.Metrics()
	}
	return nil
}

// Close implements [signer.Backend].
func (l *lateBackend) Close() error {
	l.mu.Lock()
	b := l.backend
	l.closed = true
	l.mu.Unlock()
	if b == nil {
		return nil
	}
	return b.Close()
}
