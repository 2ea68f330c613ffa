package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"signetd/signer"
)

// What a token may answer.
var (
	errFull = fmt.Errorf("%w: no more sessions", signer.ErrOverloaded)
	errLost = fmt.Errorf("%w: the session is lost", signer.ErrUnavailable)
	errBusy = fmt.Errorf("%w: no memory", signer.ErrOverloaded) // the session is as good as before
)

// A fakeToken opens sessions, and fails the test if two calls share one.
type fakeToken struct {
	t            *testing.T
	queue        int
	refuse       error
	most         *atomic.Int32
	opened, open atomic.Int32
}

type fakeSession struct{ busy atomic.Bool }

func (f *fakeToken) pool(size int) *Pool[*fakeSession] {
	return New(Config[*fakeSession]{Size: size, Queue: f.queue, Open: func() (*fakeSession, error) {
		if f.refuse != nil {
			return nil, f.refuse
		}
		if f.most != nil && f.open.Load() >= f.most.Load() {
			return nil, errFull
		}
		f.opened.Add(1)
		f.open.Add(1)
		return new(fakeSession), nil
	}, Close: func(s *fakeSession) {
		if s.busy.Load() {
			f.t.Error("a busy session was closed")
		}
		f.open.Add(-1)
	}, Lost: func(err error) bool { return errors.Is(err, errLost) }, Full: func(err error) bool { return errors.Is(err, errFull) }})
}

// takes returns a call that takes d and then returns v and err.
func (f *fakeToken) takes(d time.Duration, v string, err error) func(*fakeSession) ([]byte, error) {
	return func(s *fakeSession) ([]byte, error) {
		if s.busy.Swap(true) {
			f.t.Error("two calls share a session")
		}
		defer s.busy.Store(false)
		time.Sleep(d)
		return []byte(v), err
	}
}

func TestPoolBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(3)
		start := time.Now()
		var wg sync.WaitGroup
		for range 9 {
			wg.Go(func() {
				if v, err := Do(t.Context(), p, f.takes(time.Second, "v", nil)); err != nil || string(v) != "v" {
					t.Errorf("do: %q, %v", v, err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("9 calls of 1 s took %v on 3 sessions, want 3 s", d)
		}
		if n := f.opened.Load(); n != 3 {
			t.Errorf("%d sessions were opened, want 3", n)
		}
		p.Close()
		if n := f.open.Load(); n != 0 {
			t.Errorf("%d sessions are open after close", n)
		}
	})
}

func TestPoolOpensLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(3)
		defer p.Close()
		if n := f.opened.Load(); n != 0 {
			t.Errorf("%d sessions were opened without a call", n)
		}
	})
}

func TestPoolCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(2)
		defer p.Close()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Do(ctx, p, f.takes(time.Minute, "late", nil)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the call that hangs: %v", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("its caller left after %v, want 1 s", d)
		}

		// The other session is busy: this one waits and leaves.
		go func() { _, _ = Do(t.Context(), p, f.takes(time.Minute-time.Second, "", nil)) }() // ends with its call
		synctest.Wait()
		reached := false
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Do(ctx, p, func(*fakeSession) ([]byte, error) { reached = true; return nil, nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the call behind it: %v", err)
		}

		v, err := Do(t.Context(), p, f.takes(0, "mine", nil))
		if err != nil || string(v) != "mine" {
			t.Errorf("the patient call: %q, %v", v, err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("the slot was free again after %v, want 1 min", d)
		}
		if reached {
			t.Error("a call began after its caller had left")
		}
	})
}

func TestPoolContextEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(1)
		defer p.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Do(ctx, p, f.takes(0, "", nil)); !errors.Is(err, context.Canceled) {
			t.Errorf("do: %v, want context.Canceled", err)
		}
		if n := f.opened.Load(); n != 0 {
			t.Error("a session was opened for it")
		}
	})
}

func TestPoolCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(1)
		start := time.Now()
		var done atomic.Int32
		for range 3 { // one runs, two wait
			go func() { // ends with its call
				if _, err := Do(t.Context(), p, f.takes(time.Second, "", nil)); err != nil {
					t.Errorf("begun before close: %v", err)
				}
				done.Add(1)
			}()
		}
		synctest.Wait()
		go p.Close() // a second close; ends with the first
		synctest.Wait()
		if _, err := Do(t.Context(), p, f.takes(0, "", nil)); !errors.Is(err, signer.ErrUnavailable) {
			t.Errorf("after close: %v, want ErrUnavailable", err)
		}
		p.Close()
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("close took %v, want 3 s", d)
		}
		synctest.Wait()
		if n := done.Load(); n != 3 {
			t.Errorf("%d of 3 calls ended well", n)
		}
		if n := f.open.Load(); n != 0 {
			t.Errorf("%d sessions are open after close", n)
		}
	})
}

func TestPoolCloseWaitsForAbandonedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(1)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = Do(ctx, p, f.takes(time.Minute, "", nil)) // TestPoolCallerLeaves looks at the error
		p.Close()
		if d := time.Since(start); d != time.Minute {
			t.Errorf("close returned after %v, want 1 min: the call was running", d)
		}
	})
}

func TestPoolReplacesLostSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(1)
		defer p.Close()
		for _, tt := range []struct {
			err    error
			opened int32
		}{
			{errBusy, 1},
			{errLost, 1},
			{errLost, 2}, // for the call after the first loss
			{errBusy, 3},
		} {
			if _, err := Do(t.Context(), p, f.takes(0, "", tt.err)); !errors.Is(err, tt.err) {
				t.Errorf("Do: %v, want %v", err, tt.err)
			}
			if n := f.opened.Load(); n != tt.opened {
				t.Errorf("%v: %d sessions were opened, want %d", tt.err, n, tt.opened)
			}
		}
	})
}

func TestPoolOpenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100, refuse: errFull}
		p := f.pool(1)
		defer p.Close()
		if _, err := Do(t.Context(), p, f.takes(0, "", nil)); !errors.Is(err, signer.ErrOverloaded) {
			t.Errorf("do: %v, want ErrOverloaded", err)
		}
		f.refuse = nil
		if _, err := Do(t.Context(), p, f.takes(0, "", nil)); err != nil {
			t.Errorf("when the token has room again: %v", err)
		}
	})
}

// A plaintext is wiped if the caller has left.
func TestPoolWipesAbandonedResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(1)
		out := []byte("plaintext")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Do(ctx, p, func(*fakeSession) ([]byte, error) {
			time.Sleep(time.Minute)
			return out, nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("do: %v", err)
		}
		p.Close()
		if string(out) != "\x00\x00\x00\x00\x00\x00\x00\x00\x00" {
			t.Errorf("%q is left", out)
		}
	})
}
