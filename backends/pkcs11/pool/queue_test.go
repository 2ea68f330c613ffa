package pool

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"signetd/signer"
	"signetd/signer/supervise"
)

// The session that was used last is used next, so that a quiet backend needs only one.
func TestPoolUsesLastSessionFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(4)
		defer p.Close()
		run := func(d time.Duration) (used *fakeSession) {
			_, err := Do(t.Context(), p, func(s *fakeSession) (none struct{}, err error) {
				used = s
				_, err = f.takes(d, "", nil)(s)
				return none, err
			})
			if err != nil {
				t.Error(err)
			}
			return used
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { run(time.Duration(i+1) * time.Second) })
		}
		wg.Wait()
		last := run(0)
		for range 10 {
			if run(0) != last {
				t.Error("a call got another session than the one before it")
			}
		}
	})
}

func TestPoolServesInOrderAndRefusesMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 3}
		p := f.pool(1)
		defer p.Close()

		var order []int
		var wg sync.WaitGroup
		for i := range 4 { // one runs, three wait
			wg.Go(func() {
				_, err := Do(t.Context(), p, func(*fakeSession) (none struct{}, err error) {
					order = append(order, i)
					time.Sleep(time.Second)
					return none, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}

		start := time.Now()
		if _, err := Do(t.Context(), p, f.takes(0, "", nil)); !errors.Is(err, signer.ErrOverloaded) {
			t.Errorf("one more: %v, want ErrOverloaded", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it was refused after %v, want at once", d)
		}
		if s := p.Stats(); s.Busy != 1 || s.Waiting != 3 || s.OverloadedTotal != 1 {
			t.Errorf("stats: %+v", s)
		}

		wg.Wait()
		for i, n := range order {
			if i != n {
				t.Fatalf("they ran in the order %v", order)
			}
		}
	})
}

// A caller that leaves the queue makes room in it.
func TestPoolQueueForgetsTheDeparted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 1}
		p := f.pool(1)
		defer p.Close()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = Do(t.Context(), p, f.takes(time.Minute, "", nil)) })
		synctest.Wait()

		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := Do(ctx, p, f.takes(0, "", nil)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("do: %v, want the deadline", err)
			}
			cancel()
		}
		if s := p.Stats(); s.Waiting != 0 || s.ExpiredTotal != 5 {
			t.Errorf("stats: %+v", s)
		}
		wg.Wait()
	})
}

// When every session hangs, calls that wait and calls that come are refused at once. When
// the calls return, the pool works again.
func TestPoolStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(2)
		defer p.Close()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := Do(ctx, p, f.takes(time.Hour, "", nil)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a call that hangs: %v", err)
				}
			})
		}
		synctest.Wait()

		start := time.Now()
		wg.Go(func() {
			if _, err := Do(t.Context(), p, f.takes(0, "", nil)); !errors.Is(err, signer.ErrUnavailable) {
				t.Errorf("a call that waited: %v, want ErrUnavailable", err)
			}
			if d := time.Since(start); d != time.Second+hangAfter {
				t.Errorf("it waited for %v, want hardly more than 1 s", d)
			}
		})

		wg.Wait()
		if _, err := Do(t.Context(), p, f.takes(0, "", nil)); !errors.Is(err, signer.ErrUnavailable) {
			t.Errorf("a call that came then: %v, want ErrUnavailable", err)
		}
		if s := p.Stats(); s.Abandoned != 2 || s.AbandonedTotal != 2 || s.StuckTotal != 2 {
			t.Errorf("stats: %+v", s)
		}

		time.Sleep(2 * time.Hour)
		if _, err := Do(t.Context(), p, f.takes(0, "", nil)); err != nil {
			t.Errorf("when the calls have returned: %v", err)
		}
		if s := p.Stats(); s.Abandoned != 0 || f.opened.Load() != 2 {
			t.Errorf("%d sessions, stats: %+v", f.opened.Load(), s)
		}
	})
}

// A token with fewer sessions than configured is used with those it has, and asked for more
// later.
func TestPoolShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var most atomic.Int32
		most.Store(2)
		f := &fakeToken{t: t, queue: 100, most: &most}
		p := f.pool(4)
		defer p.Close()

		burst := func() {
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					if _, err := Do(t.Context(), p, f.takes(time.Second, "", nil)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}

		burst()
		if s := p.Stats(); s.Sessions != 2 || f.open.Load() != 2 {
			t.Errorf("%d sessions open, stats: %+v", f.open.Load(), s)
		}

		most.Store(4)
		for range 3 {
			time.Sleep(growAfter + time.Second)
			burst()
		}
		if s := p.Stats(); s.Sessions != 4 || f.open.Load() != 4 {
			t.Errorf("when the token has room again: %d sessions open, stats: %+v", f.open.Load(), s)
		}
	})
}

func TestPoolTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(2)
		defer p.Close()
		if _, err := Do(t.Context(), p, f.takes(0, "", nil)); err != nil {
			t.Fatal(err)
		}

		touched := 0
		touch := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			p.Touch(ctx, 20*time.Second, func(*fakeSession) error { touched++; return nil })
		}

		if touch(); touched != 0 {
			t.Error("a session that was just used was touched")
		}

		time.Sleep(20 * time.Second)
		if touch(); touched != 1 {
			t.Errorf("%d sessions were touched, want the one that is open", touched)
		}
		if touch(); touched != 1 {
			t.Error("a touch does not count as a use")
		}
	})
}

// A call with a supervised context runs on its caller's goroutine, to its end. When its time
// is over it counts as abandoned nevertheless, and calls that wait are refused because the
// module hangs.
func TestPoolSupervised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 100}
		p := f.pool(1)
		defer p.Close()

		start := time.Now()
		ctx := supervise.NewContext(time.Second)
		waited := make(chan error, 1)
		time.AfterFunc(time.Second/2, func() {
			_, err := Do(t.Context(), p, f.takes(0, "", nil))
			waited <- err
			if d := time.Since(start); d < time.Second+hangAfter || d > time.Second+2*hangAfter {
				t.Errorf("the call behind it was refused after %v", d)
			}
			if s := p.Stats(); s.Abandoned != 1 || s.StuckTotal != 1 {
				t.Errorf("meanwhile: %+v", s)
			}
		})

		v, err := Do(ctx, p, f.takes(time.Minute, "late", nil))
		if err != nil || string(v) != "late" || time.Since(start) != time.Minute {
			t.Errorf("do: %q, %v after %v; want what the call returned, when it did", v, err, time.Since(start))
		}
		if err := <-waited; !errors.Is(err, signer.ErrUnavailable) {
			t.Errorf("the call behind it: %v, want ErrUnavailable", err)
		}

		if s := p.Stats(); s.Abandoned != 0 || s.AbandonedTotal != 1 || s.Busy != 0 {
			t.Errorf("afterwards: %+v", s)
		}
		if v, err := Do(supervise.NewContext(time.Hour), p, f.takes(0, "next", nil)); err != nil || string(v) != "next" {
			t.Errorf("the next: %q, %v", v, err)
		}
	})
}
