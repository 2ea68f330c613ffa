package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"signetd/backends/cloud"
	"signetd/signer"
)

var (
	errDown  = errors.New("down")
	errBusy  = errors.New("busy")
	errFinal = fmt.Errorf("%w: no such key", signer.ErrNotFound)
)

func classify(err error) cloud.Fault {
	switch {
	case errors.Is(err, errDown):
		return cloud.Fault{Kind: cloud.Retryable, Err: err}
	case errors.Is(err, errBusy):
		return cloud.Fault{Kind: cloud.Throttled, Err: err}
	}
	return cloud.Fault{Kind: cloud.Final, Err: err}
}

func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestDo(t *testing.T) {
	fails := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	ok := fails(nil)

	tests := []struct {
		name     string
		calls    []func(context.Context) error // one for each attempt
		deadline time.Duration
		want     error
		text     string
		attempts int
		least    time.Duration
		most     time.Duration
	}{
		{name: "success", calls: []func(context.Context) error{ok}, attempts: 1},
		{name: "one fault", calls: []func(context.Context) error{fails(errDown), ok}, attempts: 2, least: 25 * time.Millisecond, most: 50 * time.Millisecond},
		{
			name: "down", calls: []func(context.Context) error{fails(errDown), fails(errDown), fails(errDown)}, want: signer.ErrUnavailable,
			text: "unavailable: Test KMS: down (3 attempts)", attempts: 3, least: 75 * time.Millisecond, most: 150 * time.Millisecond,
		},
		{name: "throttled", calls: []func(context.Context) error{fails(errBusy)}, want: signer.ErrOverloaded, text: "Test KMS throttles: busy", attempts: 1},
		{name: "throttled after a fault", calls: []func(context.Context) error{fails(errDown), fails(errBusy)}, want: signer.ErrOverloaded, attempts: 2, most: 50 * time.Millisecond},
		{name: "final", calls: []func(context.Context) error{fails(errFinal)}, want: signer.ErrNotFound, text: errFinal.Error(), attempts: 1},
		{name: "does not decrypt", calls: []func(context.Context) error{fails(signer.ErrDecrypt)}, want: signer.ErrDecrypt, text: signer.ErrDecrypt.Error(), attempts: 1},
		{name: "useless answer", calls: []func(context.Context) error{fails(cloud.Retry(errFinal)), ok}, attempts: 2, most: 50 * time.Millisecond},
		{name: "wrong answer", calls: []func(context.Context) error{fails(cloud.Fail(errDown))}, want: errDown, attempts: 1},
		{name: "a hang", calls: []func(context.Context) error{hang, ok}, attempts: 2, least: time.Second, most: 1050 * time.Millisecond},
		{
			name: "hangs", calls: []func(context.Context) error{hang, hang, hang}, want: signer.ErrUnavailable, text: "no answer within 1s (3 attempts)",
			attempts: 3, least: 3 * time.Second, most: 3150 * time.Millisecond,
		},
		{
			name: "a hang past the deadline", calls: []func(context.Context) error{hang}, deadline: 300 * time.Millisecond, want: context.DeadlineExceeded,
			attempts: 1, least: 300 * time.Millisecond, most: 300 * time.Millisecond,
		},
		{
			name: "no time for another attempt", calls: []func(context.Context) error{fails(errDown)}, deadline: 20 * time.Millisecond, want: signer.ErrUnavailable,
			text: "(1 attempt)", attempts: 1,
		},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := cloud.New(cloud.Config{Service: "Test KMS", AttemptTimeout: time.Second, Classify: classify})
				ctx := t.Context()
				if tt.deadline > 0 {
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				start, attempts := time.Now(), 0
				err := c.Do(ctx, "rsa", func(ctx context.Context) error {
					attempts++
					return tt.calls[attempts-1](ctx)
				})
				took := time.Since(start)
				if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.text) {
					t.Errorf("Do() = %v, want %v with %q", err, tt.want, tt.text)
				}
				if attempts != tt.attempts || c.Stats().AttemptsTotal != uint64(attempts) || c.Stats().RetriesTotal != uint64(attempts-1) {
					t.Errorf("%d attempts, want %d; Stats() = %+v", attempts, tt.attempts, c.Stats())
				}
				if took < tt.least || took > tt.most {
					t.Errorf("took %v, want %v to %v", took, tt.least, tt.most)
				}
				if errors.Is(err, signer.ErrOverloaded) != (signer.RetryAfter(err) > 0) {
					t.Errorf("RetryAfter(%v) = %v", err, signer.RetryAfter(err))
				}
			})
		})
	}
}

// TestCancel ends the context in each place where Do waits.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cloud.New(cloud.Config{AttemptTimeout: time.Second, Classify: classify})

		for wait, call := range map[time.Duration]func(context.Context) error{
			500 * time.Millisecond: hang,                                           // an attempt
			10 * time.Millisecond:  func(context.Context) error { return errDown }, // the pause
		} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(wait, cancel)
			start := time.Now()
			err := c.Do(ctx, "rsa", call)
			if took := time.Since(start); !errors.Is(err, context.Canceled) || took != wait {
				t.Errorf("Do() = %v after %v, want context.Canceled after %v", err, took, wait)
			}
			if err := c.Do(ctx, "rsa", call); !errors.Is(err, context.Canceled) {
				t.Errorf("Do(cancelled) = %v, want context.Canceled", err)
			}
		}
	})
}

// TestRate offers 1000 calls a second to a class with a rate of 300.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cloud.New(cloud.Config{Service: "Test KMS", Rates: map[string]int{"rsa": 300, "free": 0}, Classify: classify})
		var done, refused atomic.Int64
		var wg sync.WaitGroup
		const seconds = 5

		for range seconds * 1000 {
			wg.Go(func() {
				start := time.Now()
				err := c.Do(t.Context(), "rsa", func(context.Context) error { return nil })
				switch {
				case err == nil:
					done.Add(1)
				case errors.Is(err, signer.ErrOverloaded) && signer.RetryAfter(err) >= time.Second:
					refused.Add(1)
				default:
					t.Errorf("Do() = %v, want nil or ErrOverloaded with a hint", err)
				}
				if took := time.Since(start); took > 50*time.Millisecond {
					t.Errorf("Do() took %v, want 50ms at most", took)
				}
			})
			time.Sleep(time.Millisecond)
		}

		if used := c.Stats().Used["rsa"]; used < 0.95 || used > 1.05 {
			t.Errorf("Stats().Used = %v, want about 1", used)
		}
		wg.Wait()
		if n := done.Load(); n < seconds*300-10 || n > seconds*300+40 {
			t.Errorf("%d calls went out in %d s, want about 300 a second", n, seconds)
		}
		if s := c.Stats(); s.AttemptsTotal != uint64(done.Load()) || s.LimitedTotal != uint64(refused.Load()) || s.LimitedTotal == 0 {
			t.Errorf("Stats() = %+v, want %d attempts and %d limited", s, done.Load(), refused.Load())
		}

		for range 1000 {
			if err := c.Do(t.Context(), "free", func(context.Context) error { return nil }); err != nil {
				t.Fatalf("Do(a class without a rate) = %v", err)
			}
		}

		time.Sleep(2 * time.Second)
		if used := c.Stats().Used["rsa"]; used != 0 {
			t.Errorf("Stats().Used = %v after two seconds without a call, want 0", used)
		}
	})
}

// TestThrottle offers 1000 calls a second to a service that takes 300: it gets those,
// and few of the others.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cloud.New(cloud.Config{Service: "Test KMS", Classify: classify})
		service := rate.NewLimiter(300, 30)
		var done, refused atomic.Int64
		var wg sync.WaitGroup
		const seconds = 5

		for range seconds * 1000 {
			wg.Go(func() {
				start := time.Now()
				err := c.Do(t.Context(), "rsa", func(context.Context) error {
					time.Sleep(5 * time.Millisecond)
					if service.Allow() {
						return nil
					}
					return errBusy
				})
				if took := time.Since(start); took > 5*time.Millisecond {
					t.Errorf("Do() took %v, want no more than one attempt", took)
				}
				switch {
				case err == nil:
					done.Add(1)
				case errors.Is(err, signer.ErrOverloaded) && signer.RetryAfter(err) == time.Second:
					refused.Add(1)
				default:
					t.Errorf("Do() = %v, want nil or ErrOverloaded with a hint", err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()

		s := c.Stats()
		if n := done.Load(); n < seconds*290 || n > seconds*300+40 {
			t.Errorf("%d calls succeeded in %d s, want about 300 a second", n, seconds)
		}
		if s.ThrottledTotal > uint64(done.Load())/2 || s.ThrottledTotal+s.LimitedTotal != uint64(refused.Load()) {
			t.Errorf("Stats() = %+v for %d refused: want most of them not to go out", s, refused.Load())
		}
		if err := c.Do(t.Context(), "ecc", func(context.Context) error { return nil }); err != nil {
			t.Errorf("Do(another class) = %v", err)
		}
	})
}

// TestThrottledFor throttles for as long as the service asks for.
func TestThrottledFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cloud.New(cloud.Config{Classify: func(err error) cloud.Fault {
			return cloud.Fault{Kind: cloud.Throttled, Err: err, After: 3 * time.Second}
		}})
		calls := 0
		call := func(context.Context) error { calls++; return errBusy }

		for range 3 {
			if err := c.Do(t.Context(), "rsa", call); !errors.Is(err, signer.ErrOverloaded) || signer.RetryAfter(err) != 3*time.Second {
				t.Errorf("Do() = %v with a hint of %v, want ErrOverloaded with 3s", err, signer.RetryAfter(err))
			}
		}

		time.Sleep(3 * time.Second)
		_ = c.Do(t.Context(), "rsa", call) // for its call
		if calls != 2 {
			t.Errorf("%d calls went out, want one before and one after", calls)
		}
	})
}

// TestRetriesKeepTheRate uses the whole rate of a service that is down: the retries must
// not go above it.
func TestRetriesKeepTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cloud.New(cloud.Config{Rates: map[string]int{"rsa": 10}, Classify: classify})

		for range 10 {
			for range 5 {
				err := c.Do(t.Context(), "rsa", func(context.Context) error { return errDown })
				if !errors.Is(err, signer.ErrUnavailable) && !errors.Is(err, signer.ErrOverloaded) {
					t.Errorf("Do() = %v, want ErrUnavailable or ErrOverloaded", err)
				}
			}
			time.Sleep(time.Second)
		}

		if n := c.Stats().AttemptsTotal; n > 10*11+1 {
			t.Errorf("%d attempts in 10 s, want 10 a second at most", n)
		}
	})
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cloud.New(cloud.Config{Service: "Test KMS", Attempts: 1, Rates: map[string]int{"tiny": 1}, Classify: classify})
		probes := 0
		ping := func(class string, answer error) error {
			return c.Ping(t.Context(), class, func(context.Context) error { probes++; return answer })
		}

		for i, tt := range []struct {
			class  string
			wait   time.Duration
			answer error
			want   error
			probes int
		}{
			{"rsa", 0, errDown, signer.ErrUnavailable, 1},
			{"rsa", 0, errDown, signer.ErrUnavailable, 2}, // a service that is down is asked again
			{"rsa", 0, nil, nil, 3},
			{"rsa", 4 * time.Second, errDown, nil, 3}, // not asked
			{"rsa", 2 * time.Second, errBusy, nil, 4}, // a throttle is an answer
			{"rsa", 0, errDown, nil, 4},
			{"rsa", 6 * time.Second, errFinal, signer.ErrNotFound, 5},
			{"tiny", 0, errFinal, signer.ErrNotFound, 6},
			{"tiny", 0, errFinal, nil, 6}, // its own rate is used up
		} {
			time.Sleep(tt.wait)
			if err := ping(tt.class, tt.answer); !errors.Is(err, tt.want) || probes != tt.probes {
				t.Errorf("%d: Ping() = %v after %d probes, want %v after %d", i, err, probes, tt.want, tt.probes)
			}
		}

		c.Close()
		if err := ping("rsa", nil); !errors.Is(err, signer.ErrUnavailable) {
			t.Errorf("Ping() after Close = %v, want ErrUnavailable", err)
		}
	})
}

// TestPingAfterUse pings after a call: Ping takes the call's answer for its own, and
// probes after a call that failed.
func TestPingAfterUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cloud.New(cloud.Config{Classify: classify})
		answer := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
		if err := c.Do(t.Context(), "rsa", answer(nil)); err != nil {
			t.Fatal(err)
		}
		if err := c.Ping(t.Context(), "rsa", answer(errDown)); err != nil {
			t.Errorf("Ping() after a call = %v, want nil without a probe", err)
		}
		if err := c.Do(t.Context(), "rsa", answer(errDown)); !errors.Is(err, signer.ErrUnavailable) {
			t.Fatal(err)
		}
		if err := c.Ping(t.Context(), "rsa", answer(errDown)); !errors.Is(err, signer.ErrUnavailable) {
			t.Errorf("Ping() after a call that failed = %v, want ErrUnavailable", err)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cloud.New(cloud.Config{Classify: classify})
		inFlight := make(chan error)
		go func() {
			inFlight <- c.Do(t.Context(), "rsa", func(context.Context) error { time.Sleep(time.Second); return nil })
		}()
		synctest.Wait()
		start := time.Now()
		go c.Close()
		synctest.Wait()
		if err := c.Do(t.Context(), "rsa", func(context.Context) error { return nil }); !errors.Is(err, signer.ErrUnavailable) {
			t.Errorf("Do() while closing = %v, want ErrUnavailable", err)
		}
		if err := <-inFlight; err != nil {
			t.Errorf("Do() in flight = %v, want nil", err)
		}
		c.Close()
		if took := time.Since(start); took != time.Second {
			t.Errorf("Close() took %v, want 1s", took)
		}
	})
}
