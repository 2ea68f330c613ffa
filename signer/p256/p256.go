// Package p256 verifies ES256 signatures of one key that signs often, about 2.4 times as
// fast as crypto/ecdsa: the daemon verifies each signature before it leaves. It is handed
// to package signer in [signer.VersionConfig], so that the programs of issuers, which link
// signer, do not link filippo.io/nistec.
package p256

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"runtime"
	"sync"
	"sync/atomic"

	"signetd/signer"
)

const (
	// tableAfter is how many signatures of a key come before its table: a key that signs
	// now and then needs none.
	tableAfter = 64
	// maxTables is how many tables a process has at most: 3 MiB.
	maxTables = 64
)

// tables has an element for each table of this process.
var tables = make(chan struct{}, maxTables)

// Verifier returns a function that reports whether sig, r || s of 32 bytes each, is an
// ES256 signature of pub on digest, which has 32 bytes. The function is safe for concurrent
// use. Its answers are those of crypto/ecdsa, and so is its speed for the first 64
// signatures, for a key beyond the first 64 of the process, and in FIPS 140-3 mode, to
// whose module the arithmetic here does not belong.
func Verifier(pub *ecdsa.PublicKey) func(digest, sig []byte) bool {
	v := &verifier{pub: pub, room: tables}
	return v.verify
}

// A verifier verifies signatures of one key, with a table if the key often signs.
type verifier struct {
	pub  *ecdsa.PublicKey
	room chan struct{} // takes an element for each table

	signatures atomic.Uint32 // as long as there is no table
	building   sync.Mutex    // held while the table is computed
	table      atomic.Pointer[table]
}

func (v *verifier) verify(digest, sig []byte) bool {
	if len(digest) == 32 {
		if t := v.tableNow(); t != nil {
			return t.verify(digest, sig)
		}
	}
	return signer.VerifyDigest(v.pub, signer.ES256, digest, sig)
}

// tableNow counts a signature and returns the table, or nil if there is none.
//
// The caller whose signature makes the key one that often signs waits until the table is
// computed, once, and for less than a millisecond. Others do not.
func (v *verifier) tableNow() *table {
	if t := v.table.Load(); t != nil {
		return t
	}
	if v.pub.Curve != elliptic.P256() || v.signatures.Add(1)%tableAfter != 0 || fips140.Enabled() {
		return nil
	}
	return v.build()
}

// build computes the table unless another caller does, or has.
func (v *verifier) build() *table {
	if !v.building.TryLock() {
		return nil
	}
	defer v.building.Unlock()
	if v.table.Load() != nil {
		return nil
	}

	select {
	case v.room <- struct{}{}:
	default:
		return nil
	}
	t, err := newTable(v.pub)
	if err != nil { // no signature of such a key verifies, as crypto/ecdsa will say
		<-v.room
		return nil
	}

	// A reload drops versions while requests still use them, so only the garbage
	// collector knows when the table is gone and its room is free.
	runtime.AddCleanup(t, func(room chan struct{}) { <-room }, v.room)
	v.table.Store(t)
	return t
}
