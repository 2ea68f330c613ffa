package signer_test

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
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

// A version that nobody has seen is unavailable in everything, and a place joins
// later.
func TestVersionMissing(t *testing.T) {
	unseen := signer.NewReplicas(signer.ReplicasConfig{Backends: []string{"a"}, Algs: []signer.Alg{signer.ES256}})
	v, err := signer.NewVersion(unseen, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, Backend: "a"})
	if err != nil || v.Seen() || !v.Missing() || v.KID() != "" || v.JWK() != nil {
		t.Fatalf("NewVersion() = %+v, %v", v, err)
	}
	if _, err := v.SignMessage(t.Context(), signer.ES256, []byte("x")); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("SignMessage() = %v, want ErrUnavailable", err)
	}
	if _, err := v.Verify(t.Context(), signer.ES256, []byte("x"), make([]byte, 64)); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("Verify() = %v, want ErrUnavailable: it may be right", err)
	}

	key := newECKey(t)
	r := signer.NewReplicas(signer.ReplicasConfig{Public: key.Public(), Backends: []string{"a", "b"}, Algs: []signer.Alg{signer.ES256}})
	v, err = signer.NewVersion(r, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, Backend: "a"})
	if err != nil || !v.Seen() || !v.Missing() || v.JWK() == nil {
		t.Fatalf("NewVersion() of a public half that is known = %+v, %v", v, err)
	}
	if err := r.Join(t.Context(), 1, &replica{ec: key}); err != nil || v.Missing() {
		t.Fatalf("Join() = %v, Missing() = %t", err, v.Missing())
	}
	if err := v.Prove(t.Context()); err != nil {
		t.Error(err)
	}
}

// The version that signs is that of config and clock, and another one only while
// the backend of that is away.
func TestNamedKeyAway(t *testing.T) {
	now := time.Now()
	old, new := &replica{ec: newECKey(t)}, &replica{ec: newECKey(t)}
	version := func(k *replica, from time.Time) *signer.Version {
		v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, NotBefore: from})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v1, v2, v3 := version(old, time.Time{}), version(new, now.Add(-time.Hour)), version(old, now.Add(time.Hour))
	k := signer.NamedKey{Name: "k", Versions: []*signer.Version{v1, v2, v3}}
	active := func(want *signer.Version) {
		t.Helper()
		if got, err := k.Active(now); err != nil || got != want {
			t.Errorf("Active() = %p, %v, want %p", got, err, want)
		}
		if got, err := k.Intended(now); err != nil || got != v2 {
			t.Errorf("Intended() = %p, %v, want %p", got, err, v2)
		}
	}
	active(v2)
	new.fail(signer.ErrUnavailable)
	_, _ = v2.SignMessage(t.Context(), signer.ES256, []byte("x"))
	active(v1)
	if list, err := k.Candidates(now); err != nil || len(list) != 2 || list[0] != v1 || list[1] != v2 {
		t.Errorf("Candidates() = %v, %v; want the old version first, and not the one to come", list, err)
	}
	for looked := 0; looked == 0; {
		list, err := k.Candidates(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if list[0] == v2 {
			looked++
			new.err.Store(nil)
			if again, _ := k.Candidates(time.Now()); again[0] != v1 {
				t.Error("two are to look at once")
			}
			_, _ = v2.SignMessage(t.Context(), signer.ES256, []byte("x"))
		}
	}
	active(v2)
}

func TestPassing(t *testing.T) {
	tests := []struct {
		err  error
		want bool
	}{
		{nil, false},
		{fmt.Errorf("open: %w", signer.ErrUnavailable), true},
		{signer.ErrOverloaded, true},
		{context.DeadlineExceeded, true},
		{context.Canceled, false},
		{signer.NeedsOperator(fmt.Errorf("open: %w", signer.ErrUnavailable)), false},
		{fmt.Errorf("key: %w", signer.NeedsOperator(signer.ErrUnavailable)), false},
		{fmt.Errorf("%w: %w", signer.ErrUnavailable, signer.ErrInvalid), false},
		{signer.ErrNotFound, false},
		{io.EOF, false},
	}
	for _, tt := range tests {
		if got := signer.Passing(tt.err); got != tt.want {
			t.Errorf("Passing(%v) = %t, want %t", tt.err, got, tt.want)
		}
	}
	if err := signer.NeedsOperator(signer.ErrUnavailable); !errors.Is(err, signer.ErrUnavailable) || err.Error() != "unavailable" {
		t.Errorf("NeedsOperator() = %v, want the error that was marked", err)
	}
}

// An aesKey is an AES key in memory that wraps and seals.
type aesKey struct{ secret []byte }

func (k aesKey) Public() crypto.PublicKey {
	return signer.Secret{Type: signer.SecretAES, Size: len(k.secret)}
}

func (k aesKey) block() cipher.Block {
	b, err := aes.NewCipher(k.secret)
	if err != nil {
		panic(err)
	}
	return b
}

func (k aesKey) gcm() cipher.AEAD {
	g, err := cipher.NewGCM(k.block())
	if err != nil {
		panic(err)
	}
	return g
}

func (k aesKey) WrapContext(_ context.Context, form signer.WrapForm, key []byte) ([]byte, error) {
	return signer.WrapBlocks(form, key, func(b []byte) error { k.block().Encrypt(b, b); return nil })
}

func (k aesKey) UnwrapContext(_ context.Context, form signer.WrapForm, wrapped []byte) ([]byte, error) {
	return signer.UnwrapBlocks(form, wrapped, func(b []byte) error { k.block().Decrypt(b, b); return nil })
}

func (k aesKey) SealContext(_ context.Context, plaintext, aad []byte) (iv, sealed []byte, err error) {
	iv = make([]byte, 12)
	rand.Read(iv)
	return iv, k.gcm().Seal(nil, iv, plaintext, aad), nil
}

func (k aesKey) OpenContext(_ context.Context, iv, sealed, aad []byte) ([]byte, error) {
	out, err := k.gcm().Open(nil, iv, sealed, aad)
	if err != nil {
		return nil, signer.ErrDecrypt
	}
	return out, nil
}

// Two AES keys are compared by one undoing what the other did, whatever they are for;
// and as a version they do their work.
func TestReplicasAES(t *testing.T) {
	secret, other := make([]byte, 32), make([]byte, 32)
	rand.Read(secret)
	rand.Read(other)
	for _, alg := range []signer.Alg{signer.A256KW, signer.A256GCMKW, signer.Dir} {
		algs := []signer.Alg{alg}
		r := signer.NewReplicas(signer.ReplicasConfig{
			Public: aesKey{secret}.Public(), Backends: []string{"a", "b"}, Algs: algs,
		})
		if err := r.Join(t.Context(), 0, aesKey{secret}); err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		if err := r.Join(t.Context(), 1, aesKey{other}); !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("%s: Join() of another secret = %v, want ErrInvalid", alg, err)
		}
		if err := r.Join(t.Context(), 1, aesKey{secret}); err != nil {
			t.Errorf("%s: Join() of the same secret = %v", alg, err)
		}
		v, err := signer.NewVersion(r, signer.VersionConfig{KID: "k", Algs: algs})
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		for range 4 { // each place wraps, and each unwraps
			if err := v.Prove(t.Context()); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
		}
	}
}
