package keyring_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"signetd/daemon"
	"signetd/daemon/config"
	"signetd/daemon/keyring"
	"signetd/signer"
)

// A fakeBackend has keys by ref, and faults by ref that tests change.
type fakeBackend struct {
	mu     sync.Mutex
	keys   map[string]*ecdsa.PrivateKey
	faults map[string]fault
	asked  []string // the refs, in order
	ping   fault
	closed bool
}

// A fault takes some time, or hangs until its context ends, and returns err.
type fault struct {
	takes time.Duration
	hangs bool
	err   error
}

func (f fault) do(ctx context.Context) error {
	if f.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	time.Sleep(f.takes)
	return f.err
}

func (b *fakeBackend) OpenKey(ctx context.Context, ref string) (signer.Key, error) {
	b.mu.Lock()
	b.asked = append(b.asked, ref)
	f := b.faults[ref]
	if b.keys[ref] == nil {
		b.keys[ref], _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	key := b.keys[ref]
	b.mu.Unlock()
	if err := f.do(ctx); err != nil {
		return nil, err
	}
	return fakeKey{key}, nil
}

func (b *fakeBackend) Ping(ctx context.Context) error {
	b.mu.Lock()
	f := b.ping
	b.mu.Unlock()
	return f.do(ctx)
}

func (b *fakeBackend) Close() error {
	b.closed = true
	return nil
}

// Metrics implements [signer.Metered].
func (*fakeBackend) Metrics() []signer.Metric { return []signer.Metric{{Name: "m"}} }

// refs returns the refs that were asked for, and forgets them.
func (b *fakeBackend) refs() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := strings.Join(b.asked, " ")
	b.asked = nil
	return list
}

func (b *fakeBackend) fail(ref string, f fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults[ref] = f
}

type fakeKey struct{ *ecdsa.PrivateKey }

func (k fakeKey) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.Sign(rand.Reader, digest, opts)
}

var _ signer.Signer = fakeKey{}

// An env is a keyring over one fake backend, "hsm", whose keys a, b, c ... have the refs
// of the same name.
type env struct {
	t       *testing.T
	hsm     *fakeBackend
	opening fault
	keys    *keyring.Keyring
	log     strings.Builder
}

func newEnv(t *testing.T) *env {
	e := &env{t: t, hsm: &fakeBackend{keys: map[string]*ecdsa.PrivateKey{}, faults: map[string]fault{}}}
	e.keys = keyring.New(daemon.NewMetrics("test"), slog.New(slog.NewTextHandler(&e.log, nil)))
	return e
}

func (e *env) backends() []keyring.Backend {
	return []keyring.Backend{{Name: "hsm", At: "$.backends[0]", Open: func(ctx context.Context) (signer.Backend, error) {
		if err := e.opening.do(ctx); err != nil {
			return nil, err
		}
		return e.hsm, nil
	}}}
}

func (e *env) file(names string) *config.File {
	e.t.Helper()
	var text strings.Builder
	text.WriteString("backends: [{name: hsm}]\nkeys:\n")
	for _, name := range strings.Fields(names) {
		fmt.Fprintf(&text, "  - {name: %[1]s, use: sig, algs: [ES256], versions: [{backend: hsm, ref: %[1]s}]}\n", name)
	}
	f, _, err := config.Parse[map[string]any]("c.yaml", []byte(text.String()))
	if err != nil {
		e.t.Fatal(err)
	}
	return f
}

// open opens the keys as at start, when no ring is in use yet.
func (e *env) open(names string) daemon.Setup {
	e.t.Helper()
	setup, err := e.keys.Open(e.t.Context(), e.file(names), e.backends(), nil)
	if err != nil {
		e.t.Fatal(err)
	}
	return setup
}

// missing returns the names of the keys of ring that are not open.
func missing(ring *signer.Ring) string {
	var names []string
	for _, k := range ring.Keys() {
		if k.Missing() {
			names = append(names, k.Name)
		}
	}
	return strings.Join(names, " ")
}

// finish runs the Finish of setup for some time, and returns the last ring.
func finish(t *testing.T, setup daemon.Setup, d time.Duration) *signer.Ring {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	ring := setup.Ring
	setup.Finish(ctx, func(r *signer.Ring) { ring = r })
	return ring
}

var (
	errDisabled = fmt.Errorf("the key is disabled: %w", signer.ErrUnavailable)
	errDown     = fmt.Errorf("no route to host: %w", signer.ErrUnavailable)
)

// One key that cannot be used costs itself alone, at start and in each later look.
func TestOneKeyDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.hsm.fail("a", fault{err: errDisabled})
		setup := e.open("a b c")
		if got := missing(setup.Ring); got != "a" {
			t.Fatalf("missing %q, want only a", got)
		}
		e.hsm.refs()
		finish(t, setup, time.Minute)
		if n := len(strings.Fields(e.hsm.refs())); n < 10 || n > 30 { // the longest pauses are 2.5 to 5 s
			t.Errorf("%d looks in a minute", n)
		}

		e.hsm.fail("a", fault{})
		if got := missing(finish(t, setup, time.Minute)); got != "" {
			t.Errorf("missing %q after the key was enabled", got)
		}
	})
}

// A backend that does not answer costs one timeout, and not one for each of its keys.
func TestBackendHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		all := []string{"a", "b", "c", "d"}
		for _, ref := range all {
			e.hsm.fail(ref, fault{hangs: true})
		}
		e.hsm.ping = fault{hangs: true}
		start := time.Now()
		setup := e.open("a b c d")
		if took := time.Since(start); took > 13*time.Second {
			t.Errorf("opening took %v, want one timeout", took)
		}
		if got := missing(setup.Ring); got != "a b c d" || e.hsm.refs() != "a" {
			t.Errorf("missing %q, want all, and the others not to be asked for", got)
		}

		e.hsm.ping = fault{}
		for _, ref := range all {
			e.hsm.fail(ref, fault{})
		}
		start = time.Now()
		if got := missing(finish(t, setup, time.Minute)); got != "" || time.Since(start) > time.Second {
			t.Errorf("missing %q %v after the backend is back", got, time.Since(start))
		}
	})
}

// One key that hangs in a backend that answers costs its timeout and no other key. Two of
// them cost no more than that, and the others are opened in the next round.
func TestKeysHang(t *testing.T) {
	for _, tt := range []struct{ hang, missing string }{{"a", "a"}, {"a b", "a b c d"}} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t)
			for _, ref := range strings.Fields(tt.hang) {
				e.hsm.fail(ref, fault{hangs: true})
			}
			start := time.Now()
			setup := e.open("a b c d")
			if took := time.Since(start); took > 21*time.Second {
				t.Errorf("%s hang: opening took %v", tt.hang, took)
			}
			if got := missing(setup.Ring); got != tt.missing {
				t.Errorf("%s hang: missing %q, want %q", tt.hang, got, tt.missing)
			}
			if got := missing(finish(t, setup, 2*time.Minute)); got != tt.hang {
				t.Errorf("%s hang: missing %q later, want these", tt.hang, got)
			}
		})
	}
}

// A key whose service throttles the calls for all keys after it does not keep them from
// being opened for ever.
func TestThrottlingKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		all := map[string]fault{"a": {err: signer.ErrOverloaded}, "b": {err: signer.ErrOverloaded}, "c": {err: signer.ErrOverloaded}}
		for ref, f := range all {
			e.hsm.fail(ref, f)
		}
		e.hsm.ping = fault{err: signer.ErrOverloaded}

		setup := e.open("a b c")
		if got := e.hsm.refs(); got != "a b c" {
			t.Errorf("asked for %q, want all", got)
		}
		finish(t, setup, 350*time.Millisecond)
		if rounds := slices.Collect(slices.Chunk(strings.Fields(e.hsm.refs()), 3)); len(rounds) < 2 || rounds[0][0] == rounds[1][0] {
			t.Errorf("asked for %q, want another key first in each round", rounds)
		}

		for ref := range maps.Keys(all) {
			e.hsm.fail(ref, fault{})
		}
		if got := missing(finish(t, setup, time.Minute)); got != "" {
			t.Errorf("missing %q", got)
		}
	})
}

// A backend that is away when the config is opened is opened later, and reports nothing
// before that.
func TestBackendComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.opening = fault{err: errDown}
		setup := e.open("a b")
		late := setup.Backends["hsm"]
		if err := late.Ping(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("Ping() = %v, want why it is not open", err)
		}
		if m := late.(signer.Metered).Metrics(); m != nil {
			t.Errorf("Metrics() = %v before it is open", m)
		}
		if missing(setup.Ring) != "a b" || e.hsm.refs() != "" {
			t.Error("keys of a backend that is not open")
		}

		e.opening = fault{}
		if got := missing(finish(t, setup, time.Minute)); got != "" {
			t.Errorf("missing %q", got)
		}
		if err := late.Ping(t.Context()); err != nil || len(late.(signer.Metered).Metrics()) != 1 {
			t.Errorf("Ping() = %v, or no metrics, now that it is open", err)
		}
		if err := setup.Close(); err != nil || !e.hsm.closed {
			t.Errorf("Close() = %v, and the backend is closed: %t", err, e.hsm.closed)
		}
		for _, words := range []string{"backend away", "version missing", "backend is there", "version is there"} {
			if !strings.Contains(e.log.String(), words) {
				t.Errorf("the log lacks %q:\n%s", words, e.log.String())
			}
		}
	})
}

// A version that was open before stays known while its backend is away, and a reload that
// would leave its key with no open version is refused.
func TestReloadWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		before := e.open("a")
		_, old, err := before.Ring.Version(kid(t, before.Ring, "a"))
		if err != nil {
			t.Fatal(err)
		}
		e.hsm.fail("a", fault{err: errDown})
		e.hsm.ping = fault{err: errDown}
		if _, err := e.keys.Open(t.Context(), e.file("a"), e.backends(), before.Ring); !errors.Is(err, errDown) || !strings.HasPrefix(err.Error(), "c.yaml:3:") {
			t.Errorf("Open() of a reload = %v, want it refused, with the place in the file", err)
		}

		restarted := e.open("a")
		if k := kid(t, restarted.Ring, "a"); k != old.KID() || missing(restarted.Ring) != "a" {
			t.Errorf("kid %q, want that of before, %q", k, old.KID())
		}
		e.hsm.fail("a", fault{})
		e.hsm.ping = fault{}
		if got := missing(finish(t, restarted, time.Minute)); got != "" {
			t.Errorf("missing %q", got)
		}
	})
}

func kid(t *testing.T, ring *signer.Ring, name string) string {
	t.Helper()
	k, err := ring.Key(name)
	if err != nil {
		t.Fatal(err)
	}
	return k.Versions[0].KID()
}

// Nothing may be missing for OpenAll, and what is no passing error fails Open, too.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		err       error
		open, all bool
	}{
		{errDisabled, true, false},
		{signer.ErrNotFound, false, false},
		{signer.NeedsOperator(errDown), false, false},
		{io.ErrUnexpectedEOF, false, false},
	} {
		e := newEnv(t)
		e.hsm.fail("a", fault{err: tt.err})
		_, err := e.keys.Open(t.Context(), e.file("a"), e.backends(), nil)
		if (err == nil) != tt.open {
			t.Errorf("Open() with %v = %v", tt.err, err)
		}
		if err != nil && !e.hsm.closed {
			t.Errorf("Open() with %v leaves the backend open", tt.err)
		}

		if _, err := e.keys.OpenAll(t.Context(), e.file("a"), e.backends()); !errors.Is(err, tt.err) {
			t.Errorf("OpenAll() with %v = %v", tt.err, err)
		}
	}
}
