package p256

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"signetd/signer"
)

func generate(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// asked returns what v has after so many signatures that it may compute a table.
func asked(v *verifier) (built *table, early int) {
	for range tableAfter - 1 {
		if v.tableNow() != nil {
			early++
		}
	}
	return v.tableNow(), early
}

func TestVerifier(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("crypto/ecdsa verifies everything in FIPS 140-3 mode")
	}
	v := &verifier{pub: &generate(t, elliptic.P256()).PublicKey, room: make(chan struct{}, 1)}
	built, early := asked(v)
	if built == nil || early != 0 {
		t.Fatalf("after %d signatures there is %v, and %d times before", tableAfter, built, early)
	}
	if v.tableNow() != built {
		t.Error("the next signature has another table")
	}
	p384 := &verifier{pub: &generate(t, elliptic.P384()).PublicKey, room: make(chan struct{}, 1)}
	if built, early := asked(p384); built != nil || early != 0 {
		t.Error("a key on P-384 has a table")
	}
	runtime.KeepAlive(built)
}

// TestVerifierRoom has more keys than there is room for, until one goes.
func TestVerifierRoom(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("crypto/ecdsa verifies everything in FIPS 140-3 mode")
	}
	room := make(chan struct{}, 1)
	first := &verifier{pub: &generate(t, elliptic.P256()).PublicKey, room: room}
	second := &verifier{pub: &generate(t, elliptic.P256()).PublicKey, room: room}
	if built, _ := asked(first); built == nil {
		t.Fatal("the first key found no room")
	}
	if built, _ := asked(second); built != nil {
		t.Fatal("the second key found room for one")
	}
	runtime.KeepAlive(first) // and no longer
	for len(room) > 0 {
		runtime.GC()
	}
	if built, early := asked(second); built == nil || early != 0 {
		t.Errorf("the second key got %v when the first one was gone", built)
	}
}

// TestVerifierBadKey has a key that is not a point: it takes no room.
func TestVerifierBadKey(t *testing.T) {
	pub := generate(t, elliptic.P256()).PublicKey
	pub.X = pub.Y //nolint:staticcheck // deprecated for being what this test does
	room := make(chan struct{}, 1)
	if built, _ := asked(&verifier{pub: &pub, room: room}); built != nil || len(room) != 0 {
		t.Errorf("a key that is not a point got %v and takes %d of the room", built, len(room))
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
	raw, err := signer.RawECDSA(der, 32)
	if err != nil {
		return nil, err
	}
	if bit := k.bit.Load(); bit >= 0 {
		raw[bit/8] ^= 1 << (bit % 8)
	}
	return signer.DERECDSA(raw)
}

// TestSignWithTables signs with a key from many goroutines while its multiples are
// computed, and then with a key that glitches: no wrong signature leaves.
func TestSignWithTables(t *testing.T) {
	key := &glitchingKey{private: generate(t, elliptic.P256())}
	key.bit.Store(-1)
	own := &verifier{room: make(chan struct{}, 1)}
	v, err := signer.NewVersion(key, signer.VersionConfig{
		Algs: []signer.Alg{signer.ES256},
		VerifyES256: func(pub *ecdsa.PublicKey) func(digest, sig []byte) bool {
			own.pub = pub
			return own.verify
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range tableAfter / 4 {
				sig, err := v.Sign(t.Context(), signer.ES256, digest[:])
				if err != nil || !signer.VerifyDigest(key.Public(), signer.ES256, digest[:], sig) {
					t.Errorf("Sign = %x, %v", sig, err)
				}
			}
		})
	}

	wg.Wait()
	if own.table.Load() == nil && !fips140.Enabled() {
		t.Fatal("the key has no table")
	}

	for bit := range int32(512) {
		key.bit.Store(bit)
		if sig, err := v.Sign(t.Context(), signer.ES256, digest[:]); sig != nil || signer.Code(err) != signer.CodeInternal {
			t.Fatalf("Sign with bit %d of the signature changed = %x, %v", bit, sig, err)
		}
	}
}
