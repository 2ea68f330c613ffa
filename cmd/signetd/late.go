package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"signetd/signer"
)

// The pauses between the looks for what is missing. A look at a PKCS#11 token that is
// not there initialises its module, so they are not short.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 10 * time.Second
)

// finish implements daemon.Setup.Finish: it opens what is missing, until nothing is
// or ctx ends.
func (b *builder) finish(ctx context.Context, swap func(*signer.Ring)) {
	pause := firstPause
	for len(b.pending)+len(b.late) > 0 {
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)): // #nosec G404 -- jitter
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, longestPause)
		if b.look(ctx, swap) {
			pause = firstPause // what came back may bring more with it
		}
	}
}

// look tries all that is missing once, and reports whether anything is there now.
func (b *builder) look(ctx context.Context, swap func(*signer.Ring)) bool {
	clear(b.away)
	before := len(b.pending) + len(b.late)
	b.late = slices.DeleteFunc(b.late, func(l *lateBackend) bool {
		err := l.open(ctx)
		if err == nil {
			b.log.InfoContext(ctx, "backend is there", "backend", l.name)
			return true
		}
		b.away[l.name] = err
		return false
	})
	b.pending = slices.DeleteFunc(b.pending, func(p *pending) bool { return b.lookFor(ctx, p, swap) })
	return len(b.pending)+len(b.late) < before
}

// lookFor tries one place, and says what is new about it.
func (b *builder) lookFor(ctx context.Context, p *pending, swap func(*signer.Ring)) bool {
	key, err := b.open(ctx, p.plan, p.place)
	if err == nil {
		err = b.take(ctx, p, key, swap)
	}
	backend := p.refs[p.place].Backend
	switch {
	case ctx.Err() != nil:
	case err == nil:
		v := b.keys[p.key].Versions[p.version]
		b.log.InfoContext(ctx, "version is there", "key", p.keyName, "kid", v.KID(), "backend", backend)
		logFound(ctx, b.log, p.keyName, v)
		return true
	case err.Error() != p.err.Error():
		p.err = err
		if signer.Passing(err) {
			b.log.WarnContext(ctx, "version still missing", "key", p.keyName, "backend", backend, "err", err)
		} else {
			b.log.ErrorContext(ctx, "version refused: mend the config or the backend", "key", p.keyName, "backend", backend, "err", err)
		}
	}
	return false
}

// A lateBackend is a backend that was away when the setup was made. It is safe for
// concurrent use, but for open.
type lateBackend struct {
	opener
	opening chan error // while it is being opened

	mu      sync.Mutex
	backend signer.Backend // nil until it is open
	err     error          // why it is not
	closed  bool
}

var _ signer.Metered = (*lateBackend)(nil)

// open opens the backend, unless it is. One that hangs is not opened a second time
// meanwhile: the next open waits for the same. ctx must live as long as the setup.
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
		return fmt.Errorf("%w: backend %q takes longer than %v to open", signer.ErrUnavailable, l.name, openTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *lateBackend) openOnce(ctx context.Context) error {
	b, err := l.opener.open(ctx)
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
