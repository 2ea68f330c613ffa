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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signetd/signer"
)

// A memoryKey is a key in memory that signs and makes MACs. A test can make it be away, be
// overloaded, be slow, or hang.
type memoryKey struct {
	ec     *ecdsa.PrivateKey
	secret []byte

	err   atomic.Pointer[error]
	hangs atomic.Bool
	slow  atomic.Int64 // nanoseconds
	calls atomic.Int64
}

func (k *memoryKey) Public() crypto.PublicKey {
	if k.secret != nil {
		return signer.Secret{Type: signer.SecretHMAC, Size: len(k.secret)}
	}
	return k.ec.Public()
}

func (k *memoryKey) fail(err error) { k.err.Store(&err) }

func (k *memoryKey) do(ctx context.Context) error {
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

func (k *memoryKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts)
}

func (k *memoryKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := k.do(ctx); err != nil {
		return nil, err
	}
	return k.ec.Sign(rand.Reader, digest, opts)
}

func (k *memoryKey) MACContext(ctx context.Context, message []byte, hash crypto.Hash) ([]byte, error) {
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
	a, b      *memoryKey
	version   *signer.Version
	failovers atomic.Int64

	mu      sync.Mutex
	changes []string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	key := newECKey(t)
	p := &pair{a: &memoryKey{ec: key}, b: &memoryKey{ec: key}}
	var err error
	p.version, err = signer.NewVersion(p.a, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, Places: []signer.PlaceConfig{p.place("a"), p.place("b")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.version.Join(t.Context(), 1, p.b); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pair) place(backend string) signer.PlaceConfig {
	return signer.PlaceConfig{
		Backend:  backend,
		Failover: func() { p.failovers.Add(1) },
		Changed: func(err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.changes = append(p.changes, fmt.Sprintf("%s %t", backend, err == nil))
		},
	}
}

func (p *pair) sign(ctx context.Context) error {
	_, err := p.version.SignMessage(ctx, signer.ES256, []byte("x")) // which verifies it
	return err
}

// With 32 requests in flight a place goes away, comes back, is overloaded, and is well
// again: no request fails, and in the end both places serve.
func TestPlacesUnderLoad(t *testing.T) {
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

// A place that is away gets few requests, and is used again soon after it is back.
func TestPlacesRest(t *testing.T) {
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

// The place with fewer requests in flight gets the next one.
func TestPlacesFewestInFlight(t *testing.T) {
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

// A place that hangs costs one request its share of the time, and the others nothing.
func TestPlacesHang(t *testing.T) {
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

// A request with little time left does not make a place away.
func TestPlacesLittleTime(t *testing.T) {
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

// Errors that both places share reach the request; every other error is final.
func TestPlacesErrors(t *testing.T) {
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
func TestPlacesBothAway(t *testing.T) {
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

// A different key, or one that lacks an algorithm, does not join.
func TestPlacesJoin(t *testing.T) {
	p := newPair(t)
	if err := p.version.Join(t.Context(), 1, &memoryKey{ec: newECKey(t)}); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Join() of another key pair = %v, want ErrInvalid", err)
	}
	if err := p.version.Join(t.Context(), 1, struct{ signer.Key }{p.a}); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("Join() of a key that does not sign = %v, want ErrUnsupported", err)
	}
	if err := p.sign(t.Context()); err != nil {
		t.Error(err)
	}

	a, b, other := make([]byte, 32), make([]byte, 32), make([]byte, 32)
	rand.Read(a)
	rand.Read(other)
	copy(b, a)
	first := &memoryKey{secret: a}
	v, err := signer.NewVersion(first, signer.VersionConfig{
		KID: "k", Algs: []signer.Alg{signer.HS256}, Places: []signer.PlaceConfig{{Backend: "a"}, {Backend: "b"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Join(t.Context(), 1, &memoryKey{secret: other}); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Join() of another secret = %v, want ErrInvalid", err)
	}
	first.fail(signer.ErrUnavailable)
	if err := v.Join(t.Context(), 1, &memoryKey{secret: b}); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("Join() with nothing to compare with = %v, want ErrUnavailable", err)
	}
	first.err.Store(nil)
	if err := v.Join(t.Context(), 1, &memoryKey{secret: b}); err != nil {
		t.Errorf("Join() of the same secret = %v", err)
	}
}

// wrongly is a key in memory that signs in another way than it should, from some time on.
type wrongly struct {
	*memoryKey
	other func(digest []byte) ([]byte, error)
	wrong atomic.Bool
}

func (k *wrongly) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k.wrong.Load() {
		return k.other(digest)
	}
	return k.memoryKey.SignContext(ctx, digest, opts)
}

// A place that signs wrongly is away, like one that is down, and the request goes on to
// the next. If all do, it is an internal error, and no signature leaves.
func TestPlacesWrong(t *testing.T) {
	other := newECKey(t)
	for name, wrong := range map[string]func(digest []byte) ([]byte, error){
		"another key":     func(digest []byte) ([]byte, error) { return other.Sign(rand.Reader, digest, crypto.SHA256) },
		"not DER":         func([]byte) ([]byte, error) { return make([]byte, 64), nil },
		"integers beyond": func([]byte) ([]byte, error) { return append([]byte{0x30, 38, 2, 33, 1, 36: 0}, 2, 1, 1), nil },
		"nothing":         func([]byte) ([]byte, error) { return nil, nil },
		"found by the backend": func([]byte) ([]byte, error) {
			return nil, fmt.Errorf("kms: %w", signer.ErrVerify) // as package cloud does
		},
	} {
		t.Run(name, func(t *testing.T) { testPlacesWrong(t, wrong) })
	}
}

func testPlacesWrong(t *testing.T, wrong func(digest []byte) ([]byte, error)) {
	key := newECKey(t)
	a, b := &wrongly{memoryKey: &memoryKey{ec: key}, other: wrong}, &wrongly{memoryKey: &memoryKey{ec: key}, other: wrong}
	v, err := signer.NewVersion(a, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, Places: []signer.PlaceConfig{{Backend: "a"}, {Backend: "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Join(t.Context(), 1, b); err != nil {
		t.Fatal(err)
	}

	a.wrong.Store(true)
	for range 10 {
		if _, err := v.SignMessage(t.Context(), signer.ES256, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if p := v.Places(); p[0].State != signer.StateAway || p[1].State != signer.StateOK {
		t.Errorf("Places() = %v, want the one that signs wrongly away", p)
	}

	b.wrong.Store(true)
	if sig, err := v.SignMessage(t.Context(), signer.ES256, []byte("x")); sig != nil || signer.Code(err) != signer.CodeInternal {
		t.Errorf("SignMessage() = %x, %v; want an internal error", sig, err)
	}

	a.wrong.Store(false)
	if _, err := v.SignMessage(t.Context(), signer.ES256, []byte("x")); err != nil {
		t.Error(err)
	}
}

// TestObserve holds that every operation with a private or secret key is observed, once
// for each use of the key.
func TestObserve(t *testing.T) {
	secret := make([]byte, 32)
	rand.Read(secret)
	aes := func(*testing.T) signer.Key { return aesKey{secret} }
	mac := func(*testing.T) signer.Key { return &memoryKey{secret: secret} }
	software := func(ref string) func(*testing.T) signer.Key {
		return func(t *testing.T) signer.Key { t.Helper(); return open(t, ref) }
	}
	sign := func(ctx context.Context, v *signer.Version, alg signer.Alg) error {
		_, err := v.SignJWS(ctx, alg, signer.Header{}, []byte("x"))
		return err
	}

	verify := func(ctx context.Context, v *signer.Version, alg signer.Alg) error {
		_, err := v.Verify(ctx, alg, []byte("x"), make([]byte, 64))
		return err
	}

	encrypt := func(ctx context.Context, v *signer.Version, _ signer.Alg) error {
		_, err := v.EncryptJWE(ctx, "", signer.Header{}, []byte("x"))
		return err
	}

	decrypt := func(ctx context.Context, v *signer.Version, alg signer.Alg) error {
		jwe, err := v.EncryptJWE(ctx, "", signer.Header{}, []byte("x"))
		if err != nil {
			return err
		}
		sealed, err := signer.ParseSealed(jwe)
		if err != nil {
			return err
		}
		_, err = v.DecryptJWE(ctx, sealed, sealed.Recipients[0])
		return err
	}

	wrap := func(form signer.WrapForm) func(context.Context, *signer.Version, signer.Alg) error {
		return func(ctx context.Context, v *signer.Version, alg signer.Alg) error {
			_, err := v.WrapKey(ctx, alg, form, secret)
			return err
		}
	}

	unwrap := func(form signer.WrapForm) func(context.Context, *signer.Version, signer.Alg) error {
		return func(ctx context.Context, v *signer.Version, alg signer.Alg) error {
			wrapped, err := v.WrapKey(ctx, alg, form, secret)
			if err != nil {
				return err
			}
			_, err = v.UnwrapKey(ctx, alg, form, wrapped)
			return err
		}
	}

	tests := []struct {
		name string
		key  func(*testing.T) signer.Key
		alg  signer.Alg
		do   func(context.Context, *signer.Version, signer.Alg) error
		want []signer.Use
	}{
		{"sign", software("generate:ec-p256"), signer.ES256, sign, []signer.Use{signer.UseSig}},
		{"verify a signature, which needs no private key", software("generate:ec-p256"), signer.ES256, verify, nil},
		{"make a MAC", mac, signer.HS256, sign, []signer.Use{signer.UseSig}},
		{"verify a MAC", mac, signer.HS256, verify, []signer.Use{signer.UseSig}},
		{"encrypt to a public key", software("generate:rsa-2048:enc"), signer.RSAOAEP256, encrypt, nil},
		{"decrypt, RSA-OAEP", software("generate:rsa-2048:enc"), signer.RSAOAEP256, decrypt, []signer.Use{signer.UseEnc}},
		{"decrypt, ECDH-ES", software("generate:ec-p256:ecdh"), signer.ECDHESA128KW, decrypt, []signer.Use{signer.UseEnc}},
		{"encrypt, A256KW", aes, signer.A256KW, encrypt, []signer.Use{signer.UseEnc}},
		{"decrypt, A256KW", aes, signer.A256KW, decrypt, []signer.Use{signer.UseEnc, signer.UseEnc}},
		{"encrypt, A256GCMKW", aes, signer.A256GCMKW, encrypt, []signer.Use{signer.UseEnc}},
		{"decrypt, A256GCMKW", aes, signer.A256GCMKW, decrypt, []signer.Use{signer.UseEnc, signer.UseEnc}},
		{"encrypt, dir", aes, signer.Dir, encrypt, []signer.Use{signer.UseEnc}},
		{"decrypt, dir", aes, signer.Dir, decrypt, []signer.Use{signer.UseEnc, signer.UseEnc}},
		{"wrap with RSA-OAEP, which needs no private key", software("generate:rsa-2048:enc"), signer.RSAOAEP256, wrap(0), nil},
		{"unwrap with RSA-OAEP", software("generate:rsa-2048:enc"), signer.RSAOAEP256, unwrap(0), []signer.Use{signer.UseEnc}},
		{"wrap with AES", aes, signer.A256KW, wrap(signer.WrapRFC5649), []signer.Use{signer.UseEnc}},
		{"unwrap with AES", aes, signer.A256KW, unwrap(signer.WrapRFC5649), []signer.Use{signer.UseEnc, signer.UseEnc}},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []signer.Use
			observe := func(use signer.Use, _ time.Duration, err error) {
				got = append(got, use)
				if err != nil {
					t.Errorf("observed %v", err)
				}
			}
			v, err := signer.NewVersion(tt.key(t), signer.VersionConfig{KID: "k", Algs: []signer.Alg{tt.alg}, Places: []signer.PlaceConfig{{Observe: observe}}})
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.do(t.Context(), v, tt.alg); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("observed %v, want %v", got, tt.want)
			}
		})
	}
}
