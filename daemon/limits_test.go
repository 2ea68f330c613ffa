package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"signetd/daemon/api"
	"signetd/signer"
)

func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(Limits{InFlight: 3, PerPeer: 2, Timeout: 4 * time.Second})
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
		third := take(2) // another user has slots of his own
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
			t.Errorf("a slot that becomes free is had after %v, want 1s", time.Since(start))
		}
		for _, release := range []func(){second, third, fourth} {
			release()
		}
		for uid, p := range s.peers {
			if p.users != 0 || len(p.free) != 0 {
				t.Errorf("user %d has %d requests and %d slots left, want none", uid, p.users, len(p.free))
			}
		}
		if len(s.all) != 0 {
			t.Errorf("%d slots are left, want none", len(s.all))
		}
		for uid := range uint32(2 * keptPeers) {
			take(uid)()
		}
		if len(s.peers) > keptPeers+1 {
			t.Errorf("%d users are kept", len(s.peers))
		}
	})
}

func TestConnectionLimit(t *testing.T) {
	f := serve(t, Limits{Connections: 4}) // 2 of one user, and as many again that are told so
	request := "GET " + api.GetHealth.Path + " HTTP/1.1\r\nHost: x\r\n\r\n"
	ask := func(i int) int {
		c := f.dial(t)
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		status := make([]byte, 12)
		if _, err := io.ReadFull(c, status); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		var code int
		for _, d := range status[9:] {
			code = 10*code + int(d-'0')
		}
		return code
	}
	for i, want := range []int{200, 200, 429, 429} {
		if got := ask(i); got != want {
			t.Errorf("connection %d of one user: status %d, want %d", i, got, want)
		}
	}
}

// TestConnectionFlood opens far more connections than there may be, all at once.
func TestConnectionFlood(t *testing.T) {
	f := serve(t, Limits{Connections: 16})
	var ok, refused atomic.Int64
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			c := f.dial(t)
			_, _ = io.WriteString(c, "GET "+api.GetHealth.Path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			answer, err := io.ReadAll(c)
			switch {
			case len(answer) > 12 && string(answer[9:12]) == "200":
				ok.Add(1)
			case len(answer) > 12 && string(answer[9:12]) == "429":
				refused.Add(1)
			default:
				t.Errorf("an answer of %q, %v", answer, err)
			}
		})
	}
	wg.Wait()
	if ok.Load() == 0 {
		t.Errorf("%d were served and %d refused", ok.Load(), refused.Load())
	}
	if status, body := f.do(t, "GET", api.GetHealth.Path, ""); status != http.StatusOK {
		t.Errorf("afterwards: %d %s", status, body)
	}
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

// TestSwap replaces the setup again and again under load: nobody ever has one
// that is closed, and each that was replaced is closed in the end.
func TestSwap(t *testing.T) {
	setup := func() (Setup, *closer) {
		c := &closer{}
		return Setup{Backends: map[string]signer.Backend{"b": c}}, c
	}
	first, c := setup()
	s := &Service{}
	s.current.Store(newGeneration(first))
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
				g := s.enter()
				if b, ok := g.Backends["b"].(*closer); !ok || b.closed.Load() {
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

func TestBrake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBrake(50, 2*time.Second)
		start := time.Now()
		for range refusalBurst {
			b.refused(t.Context(), 1)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("a burst took %v, want no time", took)
		}
		for range 100 {
			b.refused(t.Context(), 1)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("100 refusals above the burst took %v, want 2s", took)
		}
		start = time.Now()
		b.refused(t.Context(), 2)
		if took := time.Since(start); took != 0 {
			t.Errorf("another user waited %v", took)
		}
		var wg sync.WaitGroup
		for range 1000 { // all at once
			wg.Go(func() { b.refused(t.Context(), 1) })
		}
		wg.Wait()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("1000 at once took %v, want 2s: no answer waits longer", took)
		}
		time.Sleep(time.Minute)
		start = time.Now()
		b.refused(t.Context(), 1)
		if took := time.Since(start); took != 0 {
			t.Errorf("a user who stopped waits %v", took)
		}
		time.Sleep(time.Minute)
		for uid := range uint32(1000) {
			b.refused(t.Context(), uid)
			time.Sleep(time.Second)
		}
		if len(b.free) > 65 {
			t.Errorf("%d users are remembered, want those of late only", len(b.free))
		}
	})
}
