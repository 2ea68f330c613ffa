package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"signetd/signer"
)

func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAdmission(Limits{InFlight: 3, PerPeer: 2, Timeout: 4 * time.Second})
		take := func(uid uint32) func() {
			t.Helper()
			p, err := s.acquire(t.Context(), uid)
			if err != nil {
				t.Fatal(err)
			}
			return func() { s.release(uid, p) }
		}
		first, second := take(1), take(1)
		start := time.Now()
		if _, err := s.acquire(t.Context(), 1); !errors.Is(err, signer.ErrOverloaded) || time.Since(start) != 2*time.Second {
			t.Errorf("third of one user = %v after %v, want ErrOverloaded after 2s", err, time.Since(start))
		}
		third := take(2) // another user has places of their own
		start = time.Now()
		if _, err := s.acquire(t.Context(), 3); !errors.Is(err, signer.ErrOverloaded) || time.Since(start) != 2*time.Second {
			t.Errorf("fourth of all = %v after %v, want ErrOverloaded after 2s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.acquire(ctx, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline = %v, want context.DeadlineExceeded", err)
		}
		time.AfterFunc(time.Second, first)
		start = time.Now()
		fourth := take(1) // waits for first
		if time.Since(start) != time.Second {
			t.Errorf("a place that becomes free is had after %v, want 1s", time.Since(start))
		}
		for _, release := range []func(){second, third, fourth} {
			release()
		}
		for uid, p := range s.peers {
			if p.users != 0 || len(p.taken) != 0 {
				t.Errorf("user %d has %d requests and %d places left, want none", uid, p.users, len(p.taken))
			}
		}
		if len(s.all) != 0 {
			t.Errorf("%d places are left, want none", len(s.all))
		}
		for uid := range uint32(2 * keptPeers) {
			take(uid)()
		}
		if len(s.peers) > keptPeers+1 {
			t.Errorf("%d users are kept", len(s.peers))
		}
	})
}

// closer is a backend that knows whether it is closed.
type closer struct {
	signer.Backend
	closed atomic.Bool
}

func (c *closer) Close() error {
	c.closed.Store(true)
	return nil
}

// TestSwap replaces the setup again and again under load: no request ever has one
// that is closed, and each that was replaced is closed in the end.
func TestSwap(t *testing.T) {
	setup := func() (Setup, *closer) {
		c := &closer{}
		return Setup{Backends: map[string]signer.Backend{"b": c}}, c
	}
	first, c := setup()
	s := &Service{}
	s.generations.current.Store(newGeneration(first))
	all := []*closer{c}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				g := s.generations.enter()
				if b, ok := g.setup.Backends["b"].(*closer); !ok || b.closed.Load() {
					t.Error("a request has a backend that is closed")
				}
				g.leave()
			}
		})
	}
	for range 1000 {
		next, c := setup()
		all = append(all, c)
		s.Swap(next)
	}
	close(stop)
	wg.Wait()
	if all[len(all)-1].closed.Load() {
		t.Error("the current backend is closed")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for i, c := range all {
		if !c.closed.Load() {
			t.Errorf("backend %d was not closed", i)
		}
	}
}

func TestRefusalLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRefusalLimiter(Limits{Refusals: 50, Timeout: 4 * time.Second})
		start := time.Now()
		for range refusalBurst {
			b.wait(t.Context(), 1)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("a burst took %v, want no time", took)
		}
		for range 100 {
			b.wait(t.Context(), 1)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("100 refusals above the burst took %v, want 2s", took)
		}
		start = time.Now()
		b.wait(t.Context(), 2)
		if took := time.Since(start); took != 0 {
			t.Errorf("another user waited %v", took)
		}
		var wg sync.WaitGroup
		for range 1000 { // all at once
			wg.Go(func() { b.wait(t.Context(), 1) })
		}
		wg.Wait()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("1000 at once took %v, want 2s: no answer waits longer", took)
		}
		time.Sleep(time.Minute)
		start = time.Now()
		b.wait(t.Context(), 1)
		if took := time.Since(start); took != 0 {
			t.Errorf("a user who stopped waits %v", took)
		}
		time.Sleep(time.Minute)
		for uid := range uint32(1000) {
			b.wait(t.Context(), uid)
			time.Sleep(time.Second)
		}
		if len(b.until) > 65 {
			t.Errorf("%d users are remembered, want those of late only", len(b.until))
		}
	})
}
