package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func generate(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// asked returns the answers of o to so many signatures of pub that it may build.
func asked(o *ownP256, pub *ecdsa.PublicKey, room chan struct{}) (built *p256Verifier, early int) {
	for range p256After - 1 {
		if o.of(pub, room) != nil {
			early++
		}
	}
	return o.of(pub, room), early
}

func TestOwnP256(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("crypto/ecdsa verifies everything in FIPS 140-3 mode")
	}
	room := make(chan struct{}, 1)
	pub := &generate(t, elliptic.P256()).PublicKey
	var o ownP256
	v, early := asked(&o, pub, room)
	if v == nil || early != 0 {
		t.Fatalf("after %d signatures there is %v, and %d times before", p256After, v, early)
	}
	if o.of(pub, room) != v {
		t.Error("the next signature has another verifier")
	}
	if got := o.of(&generate(t, elliptic.P256()).PublicKey, room); got != nil {
		t.Error("another key has the verifier, too")
	}
	var p384 ownP256
	if v, early := asked(&p384, &generate(t, elliptic.P384()).PublicKey, room); v != nil || early != 0 {
		t.Error("a key on P-384 has a verifier")
	}
	runtime.KeepAlive(v)
}

// TestOwnP256Room has more keys than there is room for, until one goes.
func TestOwnP256Room(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("crypto/ecdsa verifies everything in FIPS 140-3 mode")
	}
	room := make(chan struct{}, 1)
	first, second := new(ownP256), new(ownP256)
	pub, other := &generate(t, elliptic.P256()).PublicKey, &generate(t, elliptic.P256()).PublicKey
	if v, _ := asked(first, pub, room); v == nil {
		t.Fatal("the first key found no room")
	}
	if v, _ := asked(second, other, room); v != nil {
		t.Fatal("the second key found room for one")
	}
	runtime.KeepAlive(first) // and no longer
	for len(room) > 0 {
		runtime.GC()
	}
	if v, early := asked(second, other, room); v == nil || early != 0 {
		t.Errorf("the second key got %v when the first one was gone", v)
	}
}

// TestOwnP256BadKey has a key that is no point: it takes no room.
func TestOwnP256BadKey(t *testing.T) {
	pub := generate(t, elliptic.P256()).PublicKey
	pub.X = pub.Y //nolint:staticcheck // deprecated for being what this test does
	room := make(chan struct{}, 1)
	if v, _ := asked(new(ownP256), &pub, room); v != nil || len(room) != 0 {
		t.Errorf("a key that is no point got %v and takes %d of the room", v, len(room))
	}
}

// A glitchingKey signs, and signs wrongly whenever told so.
type glitchingKey struct {
	private *ecdsa.PrivateKey
	bit     atomic.Int32 // of r || s, to be changed; -1 for none
}

func (k *glitchingKey) Public() crypto.PublicKey { return k.private.Public() }

func (k *glitchingKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts)
}

func (k *glitchingKey) SignContext(_ context.Context, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	der, err := ecdsa.SignASN1(rand.Reader, k.private, digest)
	if err != nil {
		return nil, err
	}
	raw, err := RawECDSA(der, 32)
	if err != nil {
		return nil, err
	}
	if bit := k.bit.Load(); bit >= 0 {
		raw[bit/8] ^= 1 << (bit % 8)
	}
	return DERECDSA(raw)
}

// TestSignWithTables signs with a key from many goroutines while its multiples are
// computed, and with one that glitches after that: nothing wrong leaves.
func TestSignWithTables(t *testing.T) {
	key := &glitchingKey{private: generate(t, elliptic.P256())}
	key.bit.Store(-1)
	v, err := NewVersion(key, VersionConfig{Algs: []Alg{ES256}})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range p256After / 4 {
				sig, err := v.Sign(t.Context(), ES256, digest[:])
				if err != nil || !VerifyDigest(key.Public(), ES256, digest[:], sig) {
					t.Errorf("Sign = %x, %v", sig, err)
				}
			}
		})
	}
	wg.Wait()
	if own := v.own.verifier.Load(); own == nil && !fips140.Enabled() {
		t.Fatal("the key has no verifier")
	}
	for bit := range int32(512) {
		key.bit.Store(bit)
		if sig, err := v.Sign(t.Context(), ES256, digest[:]); !errors.Is(err, errVerify) {
			t.Fatalf("Sign with bit %d of the signature changed = %x, %v", bit, sig, err)
		}
	}
}
