package signer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	// p256After is how many signatures of a key come before its p256Verifier: a key
	// that signs now and then needs none.
	p256After = 64
	// p256Most is how many p256Verifiers a process has at most: 3 MiB.
	p256Most = 64
)

// p256Room is the room of this process. What it holds is the room that is taken.
var p256Room = make(chan struct{}, p256Most)

// An ownP256 has the p256Verifier of a key that often signs. The zero value is one that
// has not signed. It is safe for concurrent use.
type ownP256 struct {
	signatures atomic.Uint32
	building   sync.Mutex
	verifier   atomic.Pointer[p256Verifier]
}

// of counts a signature of pub and returns the verifier for it, or nil if it is for
// crypto/ecdsa to verify: of a key that has signed little, is on another curve, found
// room taken, or comes with another pointer each time, and of all keys in FIPS 140-3
// mode, to whose module the arithmetic here does not belong.
//
// The caller whose signature makes the key one that often signs waits until the
// multiples are computed, once, and for less than a millisecond. Others do not.
func (o *ownP256) of(pub *ecdsa.PublicKey, room chan struct{}) *p256Verifier {
	if v := o.verifier.Load(); v != nil {
		if v.pub != pub {
			return nil
		}
		return v
	}
	if pub.Curve != elliptic.P256() || o.signatures.Add(1)%p256After != 0 || fips140.Enabled() {
		return nil
	}
	return o.build(pub, room)
}

// build makes the verifier unless another caller does, or has. It takes room until
// nobody refers to the verifier: a reload drops versions while requests use them.
func (o *ownP256) build(pub *ecdsa.PublicKey, room chan struct{}) *p256Verifier {
	if !o.building.TryLock() {
		return nil
	}
	defer o.building.Unlock()
	if o.verifier.Load() != nil {
		return nil
	}
	select {
	case room <- struct{}{}:
	default:
		return nil
	}
	v, err := newP256Verifier(pub)
	if err != nil { // no signature of such a key verifies, as crypto/ecdsa will say
		<-room
		return nil
	}
	runtime.AddCleanup(v, func(room chan struct{}) { <-room }, room)
	o.verifier.Store(v)
	return v
}
