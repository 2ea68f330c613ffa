//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

const (
	// patience is how long a request waits for a repair that has just begun.
	patience = time.Second
	// The pauses between attempts to get a token back. It is long only where an
	// attempt interrupts other backends of the module.
	firstPause, longestPause, crowdedPause = 50 * time.Millisecond, 700 * time.Millisecond, 30 * time.Second
	// hiccup is about how long a request waits before it tries a device again.
	hiccup = 10 * time.Millisecond
	// probeEvery is how often bad ciphertexts make us look at the token.
	probeEvery = time.Second
)

// A healer gets a backend's token back after its login, its sessions or the
// device were lost. One repair runs at a time, and requests wait for it.
type healer struct {
	b *Backend
	// repaired is the stamp of the last repair. What has another is not used. Its
	// epoch counts repairs.
	repaired atomic.Pointer[stamp]

	mu      sync.Mutex
	repair  chan struct{} // closed at the end of the first attempt of the repair that runs
	down    error         // what requests are told, while no attempt has helped
	closing bool
	keys    map[*key]struct{}
	probed  time.Time

	stop    chan struct{} // closed by close
	running sync.WaitGroup

	repairs, restarts atomic.Uint64
}

func newHealer(b *Backend) *healer {
	h := &healer{b: b, keys: make(map[*key]struct{}), stop: make(chan struct{})}
	h.repaired.Store(&stamp{b.module.generation.Load(), b.login.count.Load(), 0})
	return h
}

func (h *healer) epoch() uint64 { return h.repaired.Load().epoch }

// current reports whether nobody has initialised the module or logged in since
// the last repair of this backend.
func (h *healer) current() bool {
	r := h.repaired.Load()
	return r.generation == h.b.module.generation.Load() && r.logins == h.b.login.count.Load()
}

// good reports whether s may be used. The caller is inside the module, so what
// it hears stays true as far as initialisations go.
func (h *healer) good(s *session) bool { return s.stamp == *h.repaired.Load() && h.current() }

// admit lets a request through, has it wait for a repair that has just begun, or
// says at once that the token is gone.
func (h *healer) admit(ctx context.Context) error {
	if !h.current() {
		h.begin(h.epoch(), false) // another backend has initialised the module or logged in anew
	}
	h.mu.Lock()
	repair, down := h.repair, h.down
	h.mu.Unlock()
	if down != nil || repair == nil {
		return down
	}
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-repair:
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.down
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return fmt.Errorf("%w: pkcs11: token %q is being brought back", signer.ErrUnavailable, h.b.id.label)
	}
}

// begin starts a repair, unless one runs or has ended since epoch.
func (h *healer) begin(epoch uint64, restart bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.repair != nil || h.closing || h.epoch() != epoch {
		return
	}
	h.repair = make(chan struct{})
	h.running.Go(func() { h.run(restart) }) // a goroutine; ends when the token is back, or with close
}

// run repairs until it has helped.
func (h *healer) run(restart bool) {
	first := true
	for pause := firstPause; ; pause *= 2 {
		err := h.attempt(restart)
		h.mu.Lock()
		h.down = err
		if first {
			close(h.repair)
			first = false
		}
		if err == nil {
			h.repair = nil
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		restart = needsRestart(err)
		pause = min(pause, longestPause)
		if restart && h.b.module.crowded() {
			pause = min(pause*4, crowdedPause)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)): // #nosec G404 -- jitter
		case <-h.stop:
			return
		}
	}
}

// attempt is one try to get the token back: first with what is there, since a
// new initialisation interrupts every backend of the module, and then anew.
func (h *healer) attempt(restart bool) error {
	m := h.b.module
	generation := m.generation.Load()
	err := error(nil)
	if !restart {
		err = h.relogin()
		if classOf(err) == classSession { // lost again in the middle of it
			err = h.relogin()
		}
	}
	if restart || needsRestart(err) {
		h.restarts.Add(1)
		if err = m.restart(generation); err == nil {
			err = h.relogin()
		}
	}
	if err != nil {
		return fmt.Errorf("pkcs11: %w", unavailable(err))
	}
	return nil
}

// needsRestart reports whether err is one that only a new C_Initialize heals.
func needsRestart(err error) bool {
	c := classOf(err)
	return c == classDevice || c == classSession || errors.Is(err, errTokenGone)
}

// unavailable makes sure that a request hears ErrUnavailable, whatever it was
// that went wrong with a repair.
func unavailable(err error) error {
	if errors.Is(err, signer.ErrUnavailable) && !errors.Is(err, signer.ErrInvalid) {
		return err
	}
	return fmt.Errorf("%w: %v", signer.ErrUnavailable, err) //nolint:errorlint // its sentinel would be the wrong one
}

// relogin logs in if nobody is, and finds every key again. From then on no
// session and no handle of before is used.
func (h *healer) relogin() error {
	b := h.b
	b.module.gate.RLock()
	defer b.module.gate.RUnlock()
	if err := b.module.repairLogin(b.login, b.cfg, b.id, b.readCredential); err != nil {
		return err
	}
	s, err := b.module.openSession(b.login.slotNow(b.module))
	if err != nil && !full(err) { // with a full token, requests find their keys by themselves
		return err
	}
	now := &stamp{b.module.generation.Load(), b.login.count.Load(), h.epoch() + 1}
	if err == nil {
		defer s.close()
		s.stamp = *now
		for _, k := range h.allKeys() {
			// A key that is not there is that key's trouble: who uses it hears of it.
			if _, err := k.findAgain(s); lost(err) {
				return err
			}
		}
	}
	h.repaired.Store(now)
	h.repairs.Add(1)
	return nil
}

func (h *healer) allKeys() []*key {
	h.mu.Lock()
	defer h.mu.Unlock()
	keys := make([]*key, 0, len(h.keys))
	for k := range h.keys {
		keys = append(keys, k)
	}
	return keys
}

func (h *healer) add(k *key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[k] = struct{}{}
}

// again says whether a request that failed with err should be tried once more,
// and sets off what must be repaired before. epoch is that of the attempt.
func (h *healer) again(ctx context.Context, err error, epoch uint64, last bool) bool {
	var e *tokenError
	switch classOf(err) {
	case classInput:
		h.probeSoon()
	case classSession:
		if !last && (!errors.As(err, &e) || !unfinished(e.rv)) { // that one needs another session only
			h.begin(epoch, false)
		}
		return !last
	case classDevice:
		// The second time in a row it is no passing cloud, whatever the token
		// says of itself.
		h.begin(epoch, last)
		return !last && breathe(ctx)
	case classCapacity:
		return !last && breathe(ctx)
	case classNone, classMisuse, classLogin:
	}
	return false
}

// breathe waits for a moment: memory, a session or a busy device may be free
// after it. It reports whether ctx lasts.
func breathe(ctx context.Context) bool {
	pause := time.NewTimer(hiccup/2 + rand.N(hiccup)) // #nosec G404 -- jitter
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// probeSoon looks whether the token is still there, in the background. Bad
// ciphertexts look like a lost device with some tokens, and a lost device like a
// bad ciphertext; the former come as often as somebody likes.
func (h *healer) probeSoon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing || h.repair != nil || time.Since(h.probed) < probeEvery {
		return
	}
	h.probed = time.Now()
	epoch := h.epoch()
	h.running.Go(func() { // a goroutine; ends after a call or 5 s
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) //nolint:forbidigo // it is nobody's request
		defer cancel()
		if err := h.b.ask(ctx); needsRestart(err) {
			h.begin(epoch, false)
		}
	})
}

// keepAlive uses sessions that were idle for d, until close.
func (h *healer) keepAlive(d time.Duration) {
	tick := time.NewTicker(d / 2)
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), d) //nolint:forbidigo // it is nobody's request
		epoch := h.epoch()
		h.b.sessions.touch(ctx, d/2, func(s *session) error {
			return h.b.inside(func() error {
				in, err := s.loggedIn()
				if lost(err) || err == nil && !in {
					h.begin(epoch, false)
				}
				return err
			})
		})
		cancel()
		if err := h.b.inside(h.b.touchKeeper); lost(err) {
			h.begin(epoch, false)
		}
	}
}

// close ends repairs. It waits for calls that run.
func (h *healer) close() {
	h.mu.Lock()
	if !h.closing {
		h.closing = true
		close(h.stop)
	}
	h.mu.Unlock()
	h.running.Wait()
}

func (h *healer) stats(s *Stats) {
	h.mu.Lock()
	s.Down = h.down != nil
	h.mu.Unlock()
	s.RepairsTotal, s.RestartsTotal = h.repairs.Load(), h.restarts.Load()
	s.LoginsTotal = h.b.login.count.Load()
}

// slotNow returns the slot that the token is in.
func (l *login) slotNow(m *module) uint {
	m.mu.Lock()
	defer m.mu.Unlock()
	return l.slot
}

// touchKeeper uses the session that keeps the login.
func (b *Backend) touchKeeper() error {
	b.module.mu.Lock()
	defer b.module.mu.Unlock()
	if b.login.keeper == nil {
		return nil
	}
	in, err := b.login.keeper.loggedIn()
	if err == nil && !in {
		return callError("C_GetSessionInfo", p11.Error(p11.CKR_USER_NOT_LOGGED_IN))
	}
	return err
}
