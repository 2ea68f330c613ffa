package signer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signetd/signer"
)

// A replica is a key in memory that signs and makes MACs, and can be told to be
// away, to be full, or to hang.
type replica struct {
	ec     *ecdsa.PrivateKey
	secret []byte

	err   atomic.Pointer[error]
	hangs atomic.Bool
	slow  atomic.Int64 // nanoseconds
	calls atomic.Int64
}

func (k *replica) Public() crypto.PublicKey {
	if k.secret != nil {
		return signer.Secret{Type: signer.SecretHMAC, Size: len(k.secret)}
	}
	return k.ec.Public()
}

func (k *replica) fail(err error) { k.err.Store(&err) }

func (k *replica) do(ctx context.Context) error {
	k.calls.Add(1)
	if k.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	time.Sleep(time.Duration(k.slow.Load()))
	if err := k.err.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

func (k *replica) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts)
}

func (k *replica) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := k.do(ctx); err != nil {
		return nil, err
	}
	return k.ec.Sign(rand.Reader, digest, opts)
}

func (k *replica) MACContext(ctx context.Context, message []byte, hash crypto.Hash) ([]byte, error) {
	if err := k.do(ctx); err != nil {
		return nil, err
	}
	h := hmac.New(hash.New, k.secret)
	h.Write(message)
	return h.Sum(nil), nil
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A pair is one key in two places, as a version.
type pair struct {
	a, b      *replica
	replicas  *signer.Replicas
	version   *signer.Version
	failovers atomic.Int64

	mu      sync.Mutex
	changes []string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	key := newECKey(t)
	p := &pair{a: &replica{ec: key}, b: &replica{ec: key}}
	p.replicas = signer.NewReplicas(signer.ReplicasConfig{
		Public: key.Public(), Backends: []string{"a", "b"}, Algs: []signer.Alg{signer.ES256},
		Failover: func(string) { p.failovers.Add(1) },
		Changed: func(backend string, err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.changes = append(p.changes, fmt.Sprintf("%s %t", backend, err == nil))
		},
	})
	for i, k := range []*replica{p.a, p.b} {
		if err := p.replicas.Join(t.Context(), i, k); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if p.version, err = signer.NewVersion(p.replicas, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, Backend: "a"}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pair) sign(ctx context.Context) error {
	_, err := p.version.SignMessage(ctx, signer.ES256, []byte("x")) // which verifies it
	return err
}

// Under load of 32 a place goes away, comes back, is full, and is well again: no
// request fails, and in the end both have their part.
func TestReplicasUnderLoad(t *testing.T) {
	p := newPair(t)
	p.a.slow.Store(int64(time.Millisecond))
	p.b.slow.Store(int64(time.Millisecond))
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
				if err := p.sign(ctx); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	for _, err := range []error{signer.ErrUnavailable, signer.ErrOverloaded} {
		p.a.fail(fmt.Errorf("gone: %w", err))
		time.Sleep(300 * time.Millisecond)
		p.a.err.Store(nil)
		time.Sleep(500 * time.Millisecond)
	}
	a, b := p.a.calls.Load(), p.b.calls.Load()
	late := time.Now().Add(20 * time.Second)
	for p.a.calls.Load() < a+200 || p.b.calls.Load() < b+200 {
		if time.Sleep(time.Millisecond); time.Now().After(late) {
			t.Fatalf("%d and %d requests since it is back, want a share of the load for each", p.a.calls.Load()-a, p.b.calls.Load()-b)
		}
	}
	close(quit)
	wg.Wait()
	if got := strings.Join(p.changes, ", "); got != "a false, a true" {
		t.Errorf("changes: %s; want that a went away and came back: being full is neither", got)
	}
	if p.failovers.Load() == 0 {
		t.Error("no failover was counted")
	}
}

// While a place is away it meets few requests, and it does not take long until it is
// used again.
func TestReplicasRest(t *testing.T) {
	p := newPair(t)
	p.a.fail(signer.ErrUnavailable)
	for range 500 {
		if err := p.sign(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.a.calls.Load(); n > 20 {
		t.Errorf("the place that is away met %d of 500 requests", n)
	}
	want := []signer.Place{{Backend: "a", State: signer.StateAway}, {Backend: "b", State: signer.StateOK}}
	if got := p.version.Places(); got[0] != want[0] || got[1] != want[1] {
		t.Errorf("Places() = %v, want %v", got, want)
	}
	p.a.err.Store(nil)
	for late := time.Now().Add(20 * time.Second); p.version.Places()[0].State != signer.StateOK; {
		if err := p.sign(t.Context()); err != nil || time.Now().After(late) {
			t.Fatal(err, "or it did not come back")
		}
	}
}

// The place that has more in flight gets less.
func TestReplicasFewestInFlight(t *testing.T) {
	p := newPair(t)
	p.a.slow.Store(int64(20 * time.Millisecond))
	p.b.slow.Store(int64(2 * time.Millisecond))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := p.sign(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if a, b := p.a.calls.Load(), p.b.calls.Load(); b < 3*a {
		t.Errorf("the slow place had %d requests and the fast one %d", a, b)
	}
}

// A place that hangs costs a request its share, and the others nothing.
func TestReplicasHang(t *testing.T) {
	p := newPair(t)
	p.a.hangs.Store(true)
	slow := 0
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		start := time.Now()
		err := p.sign(ctx)
		cancel()
		if took := time.Since(start); err != nil || took > 350*time.Millisecond {
			t.Fatalf("%v after %v, want a signature after half of 400ms at most", err, took)
		} else if took > 150*time.Millisecond {
			slow++
		}
	}
	if slow == 0 || slow > 3 {
		t.Errorf("%d of 50 requests waited, want the one that found out, and those that looked", slow)
	}
}

// A request that comes with little time left says nothing about a place.
func TestReplicasLittleTime(t *testing.T) {
	p := newPair(t)
	p.a.hangs.Store(true)
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := p.sign(ctx)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	}
	if len(p.changes) > 0 {
		t.Errorf("changes: %v", p.changes)
	}
}

// What is said of both places is what a request hears; every other error is final.
func TestReplicasErrors(t *testing.T) {
	tests := []struct {
		a, b, want error
		calls      int64
	}{
		{signer.ErrUnavailable, signer.ErrUnavailable, signer.ErrUnavailable, 2},
		{signer.ErrUnavailable, signer.ErrOverloaded, signer.ErrOverloaded, 2},
		{signer.ErrOverloaded, signer.ErrUnavailable, signer.ErrOverloaded, 2},
		{signer.ErrDecrypt, signer.ErrDecrypt, signer.ErrDecrypt, 1},
		{signer.ErrInvalid, signer.ErrInvalid, signer.ErrInvalid, 1},
		{signer.ErrUnsupported, signer.ErrUnsupported, signer.ErrUnsupported, 1},
		{io.ErrUnexpectedEOF, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF, 1},
	}
	for _, tt := range tests {
		p := newPair(t)
		p.a.fail(tt.a)
		p.b.fail(tt.b)
		err := p.sign(t.Context())
		if n := p.a.calls.Load() + p.b.calls.Load(); !errors.Is(err, tt.want) || n != tt.calls {
			t.Errorf("%v and %v: SignMessage() = %v after %d attempts, want %v after %d", tt.a, tt.b, err, n, tt.want, tt.calls)
		}
	}
	p := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.sign(ctx); !errors.Is(err, context.Canceled) || len(p.changes) > 0 {
		t.Errorf("with a context that has ended: %v, changes %v", err, p.changes)
	}
}

// Both are away: every request tries both, so it is served as soon as one is back.
func TestReplicasBothAway(t *testing.T) {
	p := newPair(t)
	p.a.fail(signer.ErrUnavailable)
	p.b.fail(signer.ErrUnavailable)
	for range 10 {
		if err := p.sign(t.Context()); !errors.Is(err, signer.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	p.b.err.Store(nil)
	if err := p.sign(t.Context()); err != nil {
		t.Error(err)
	}
}

// A key that is another one, or less able, does not join.
func TestReplicasJoin(t *testing.T) {
	p := newPair(t)
	if err := p.replicas.Join(t.Context(), 1, &replica{ec: newECKey(t)}); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Join() of another key pair = %v, want ErrInvalid", err)
	}
	if err := p.replicas.Join(t.Context(), 1, struct{ signer.Key }{p.a}); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("Join() of a key that does not sign = %v, want ErrUnsupported", err)
	}
	if err := p.sign(t.Context()); err != nil {
		t.Error(err)
	}

	a, b, other := make([]byte, 32), make([]byte, 32), make([]byte, 32)
	rand.Read(a)
	rand.Read(other)
	copy(b, a)
	first := &replica{secret: a}
	r := signer.NewReplicas(signer.ReplicasConfig{
		Public: first.Public(), Backends: []string{"a", "b"}, Algs: []signer.Alg{signer.HS256},
	})
	if err := r.Join(t.Context(), 0, first); err != nil {
		t.Fatal(err)
	}
	if err := r.Join(t.Context(), 1, &replica{secret: other}); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Join() of another secret = %v, want ErrInvalid", err)
	}
	first.fail(signer.ErrUnavailable)
	if err := r.Join(t.Context(), 1, &replica{secret: b}); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("Join() with nothing to compare with = %v, want ErrUnavailable", err)
	}
	first.err.Store(nil)
	if err := r.Join(t.Context(), 1, &replica{secret: b}); err != nil {
		t.Errorf("Join() of the same secret = %v", err)
	}
}
