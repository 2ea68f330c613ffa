//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
)

// patience is how long a request waits for a repair that has just begun.
const patience = time.Second

// The pauses between attempts to get a token back. They are not those of
// [signer.Presence], which may be 5 s long: an attempt shows no PIN that was refused and
// costs the token a few calls, and a request that waits for the end of an outage must not
// wait for seconds after it. Only where each attempt interrupts other backends of the
// module are the pauses longer, and then longer than those of a Presence.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 700 * time.Millisecond
	sharedPause  = 30 * time.Second // if the module is initialised anew and has other users
)

// hiccupPause is about how long a request waits before it tries a device again.
const hiccupPause = 10 * time.Millisecond

// lookEvery is how often bad ciphertexts make us look at the token.
const lookEvery = time.Second

// errRestarting means that a call could not be made because the module is being
// initialised anew. It had no effect.
var errRestarting = fmt.Errorf("%w: pkcs11: the module is being initialised anew", signer.ErrUnavailable)

// A session is one of the pool's. Its stamp says whether it may still be used.
type session struct {
	*cryptoki.Session
	stamp stamp
}

// A stamp says from when a session or the handle of an object is. With another stamp than
// that of the last repair it may be dead, or that of another session or key.
type stamp struct {
	epoch   uint64 // of the login: C_Initialize or C_Login by any backend of the token
	repairs uint64 // of this backend
}

// A healer gets a backend's token back after its login, its sessions or the device were
// lost. One repair runs at a time, and requests wait for it.
type healer struct {
	login      *cryptoki.Login
	credential func() (cryptoki.Credential, error)
	askToken   func(context.Context) error

	// repaired is the stamp of the last repair. It is written by the repair that runs.
	repaired atomic.Pointer[stamp]
	restarts atomic.Uint64 // attempts that initialised the module anew

	mu      sync.Mutex                   // guards what follows
	repair  chan struct{}                // nil if none runs; closed after its first attempt
	down    error                        // what requests are told; nil until an attempt has failed
	closing bool                         // no new repair begins
	finders map[URI]func(*session) error // one for each ref that was opened: finds its key again
	looked  time.Time                    // when a bad ciphertext last made us look at the token

	stop    chan struct{} // closed by close
	running sync.WaitGroup
}

func newHealer(l *cryptoki.Login, credential func() (cryptoki.Credential, error), askToken func(context.Context) error) *healer {
	h := &healer{login: l, credential: credential, askToken: askToken, finders: make(map[URI]func(*session) error), stop: make(chan struct{})}
	h.repaired.Store(&stamp{epoch: l.Epoch()})
	return h
}

// repairs returns how many repairs have succeeded.
func (h *healer) repairs() uint64 { return h.repaired.Load().repairs }

// outdated reports whether a backend of the same token has logged in, or any backend has
// initialised the module, since the last repair of this one.
func (h *healer) outdated() bool { return h.repaired.Load().epoch != h.login.Epoch() }

// current reports whether s may be used. The caller has entered the module, so that this
// stays true of initialisations until it leaves.
func (h *healer) current(s *session) bool { return s.stamp == *h.repaired.Load() && !h.outdated() }

// stale reports whether s is of an earlier login, or from before a repair.
func (h *healer) stale(s *session) bool { return s.stamp != *h.repaired.Load() }

// openSession opens a session. The caller has entered the module.
func (h *healer) openSession() (*session, error) {
	now := *h.repaired.Load() // before the call: a repair meanwhile makes the session stale
	s, err := h.login.OpenSession()
	if err != nil {
		return nil, err
	}
	return &session{s, now}, nil
}

// admit lets a request through, has it wait for a repair that has just begun, or returns
// at once that the token is gone.
func (h *healer) admit(ctx context.Context) error {
	if h.outdated() {
		h.begin(h.repairs(), false)
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
		return fmt.Errorf("%w: pkcs11: token %q is being brought back", signer.ErrUnavailable, h.login.Token().Label)
	}
}

// begin starts a repair, unless one runs, or one has succeeded since there were only the
// given number of repairs.
func (h *healer) begin(repairs uint64, restart bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.repair != nil || h.closing || h.repairs() != repairs {
		return
	}
	h.repair = make(chan struct{})
	h.running.Go(func() { h.run(restart) }) // a goroutine; ends when the token is back, or with close
}

// run makes attempts until one succeeds.
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
		if restart && h.login.Module().Shared() {
			pause = min(pause*4, sharedPause)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)): // #nosec G404 -- jitter
		case <-h.stop:
			return
		}
	}
}

// attempt tries once to get the token back: first with what is there, since a new
// initialisation interrupts every backend of the module, and then anew.
func (h *healer) attempt(restart bool) error {
	m := h.login.Module()
	generation := m.Generation()

	err := error(nil)
	if !restart {
		err = h.relogin()
		if cryptoki.ClassOf(err) == cryptoki.ClassSession { // lost again in the middle of it
			err = h.relogin()
		}
	}
	if restart || needsRestart(err) {
		h.restarts.Add(1)
		if err = m.Restart(generation); err == nil {
			err = h.relogin()
		}
	}
	if err != nil {
		return fmt.Errorf("pkcs11: %w", unavailable(err))
	}
	return nil
}

// needsRestart reports whether only a new C_Initialize heals err.
func needsRestart(err error) bool {
	return cryptoki.Lost(err) || errors.Is(err, cryptoki.ErrTokenGone)
}

// unavailable makes err one that wraps ErrUnavailable and not ErrInvalid, which would
// blame the request for what went wrong with the token.
func unavailable(err error) error {
	if errors.Is(err, signer.ErrUnavailable) && !errors.Is(err, signer.ErrInvalid) {
		return err
	}
	return fmt.Errorf("%w: %v", signer.ErrUnavailable, err) //nolint:errorlint // its sentinel would be the wrong one
}

// relogin logs in if the user is not, and finds every key again. From then on no session
// and no handle of before is used.
func (h *healer) relogin() error {
	m := h.login.Module()
	m.Enter()
	defer m.Leave()
	if err := h.login.Repair(h.credential); err != nil {
		return err
	}

	now := &stamp{h.login.Epoch(), h.repairs() + 1}
	s, err := h.login.OpenSession()
	switch {
	case err == nil:
		defer s.Close()
		for _, find := range h.allFinders() {
			// A key that is not there fails its own requests, and no others.
			if err := find(&session{s, *now}); cryptoki.Lost(err) {
				return err
			}
		}
	case !cryptoki.Full(err): // on a full token, requests find their keys by themselves
		return err
	}
	h.repaired.Store(now)
	return nil
}

func (h *healer) allFinders() []func(*session) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.finders))
}

// add has each repair run find, which finds the key of a ref again.
//
// It takes the place of the last key of that ref: a key that its version refuses is opened
// again and again, and a repair must not become slower each time. If both are in use, the
// older one finds itself again in its next request.
func (h *healer) add(ref URI, find func(*session) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finders[ref] = find
}

// retry reports whether a request that failed with err should be tried once more, and
// begins the repair that it needs before. repairs is the number of repairs before the
// attempt, and again is set if the attempt was the second.
func (h *healer) retry(ctx context.Context, err error, repairs uint64, again bool) bool {
	switch cryptoki.ClassOf(err) {
	case cryptoki.ClassInput:
		h.lookSoon()

	case cryptoki.ClassSession:
		if !again && !cryptoki.Unfinished(err) {
			h.begin(repairs, false)
		}
		return !again

	case cryptoki.ClassDevice:
		// If it fails twice in a row the device is gone, even if the token still says
		// who it is.
		h.begin(repairs, again)
		return !again && hiccup(ctx)

	case cryptoki.ClassCapacity:
		return !again && hiccup(ctx)

	case cryptoki.ClassNone, cryptoki.ClassMisuse, cryptoki.ClassLogin:
	}
	return false
}

// hiccup waits for a moment, after which memory, a session or a busy device may be free.
// It reports false if ctx ends first.
func hiccup(ctx context.Context) bool {
	pause := time.NewTimer(hiccupPause/2 + rand.N(hiccupPause)) // #nosec G404 -- jitter
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// lookSoon looks in the background whether the token is still there, after a bad
// ciphertext. With some tokens a bad ciphertext looks like a lost device and a lost device
// like a bad ciphertext, and anyone may send bad ciphertexts as fast as they like.
func (h *healer) lookSoon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing || h.repair != nil || time.Since(h.looked) < lookEvery {
		return
	}
	h.looked = time.Now()
	repairs := h.repairs()
	h.running.Go(func() { // a goroutine; ends after a call or 5 s
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) //nolint:forbidigo // no request asks for it
		defer cancel()
		if err := h.askToken(ctx); needsRestart(err) {
			h.begin(repairs, false)
		}
	})
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

// stats returns what the healer knows.
func (h *healer) stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{
		Down:          h.down != nil,
		RepairsTotal:  h.repairs(),
		RestartsTotal: h.restarts.Load(),
		LoginsTotal:   h.login.Count(),
	}
}
