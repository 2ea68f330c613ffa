// Package audit keeps the record of who asked for what and how it ended: one
// JSON object a line, in a file that is only appended to. The daemon answers
// nothing that is not in it.
//
// A record names the request, never what was in it: no claims, no plaintext, no
// key. What was signed can be matched later by its digest.
package audit

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Record is one line of the log.
type Record struct {
	Time    time.Time `json:"time"` // when the request was taken up, UTC
	Request string    `json:"request"`
	Item    int       `json:"item,omitempty"` // the place in a batch, from 1
	Peer    Peer      `json:"peer"`
	Op      string    `json:"op"`
	Key     string    `json:"key,omitempty"` // as the request names it, or that of the version that was used
	KID     string    `json:"kid,omitempty"` // of the version that was used
	Alg     string    `json:"alg,omitempty"`
	Outcome string    `json:"outcome"`          // "ok" or an error code
	Reason  string    `json:"reason,omitempty"` // the error, in words
	Rule    string    `json:"rule,omitempty"`   // by which claims or a token were refused
	JTI     string    `json:"jti,omitempty"`    // of the token that was signed or verified
	Exp     int64     `json:"exp,omitempty"`    // seconds since 1970
	// Digest is what the key signed, or what the signature that was verified is on,
	// in base64url: for a JWS the hash, by alg, of its signing input. It and not the
	// signature says which token it was, for an ECDSA signature has a twin that
	// anybody can compute.
	Digest string `json:"digest,omitempty"`
	// Object is the SHA-256, in base64url, of what was to be opened or was sealed: of
	// the JWE, or of the bytes of the encrypted key.
	Object string `json:"object_sha256,omitempty"`
	// To is whom something was encrypted for, if it is not Key: a name of the config, or
	// "jwk" and the RFC 7638 thumbprint of a key in the request.
	To string `json:"to,omitempty"`
	// SignedBy is the key, or the trusted issuer, of the token in a JWE.
	SignedBy string `json:"signed_by,omitempty"`
	// WouldDeny is what the claim policy of a key in dry-run would have refused. The
	// token was signed.
	WouldDeny []Denial `json:"would_deny,omitempty"`
}

// A Denial is a rule of a claim policy and the claim that breaks it.
type Denial struct {
	Rule  string `json:"rule"`
	Claim string `json:"claim,omitempty"`
}

// A Peer is the process that asked, as the kernel knows it.
type Peer struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	PID int32  `json:"pid"`
}

// Sync says when a record is on the disk.
type Sync string

const (
	// SyncAlways has each record on the disk (fsync) before the answer leaves.
	// Requests that come at the same time share an fsync.
	SyncAlways Sync = "always"
	// SyncNever leaves it to the kernel: records survive the death of the process,
	// and not that of the host.
	SyncNever Sync = "never"
)

// A Log is an audit log in a file. It is safe for concurrent use.
type Log struct {
	path string
	sync Sync
	wait time.Duration // how long a record waits for others at most

	// expected counts records that will come soon; see [Log.Expect].
	expected atomic.Int64

	mu     sync.Mutex    // guards what follows; never held during I/O
	next   *batch        // the records in line, or nil if there are none
	spare  []byte        // a buffer for the data of a later batch
	enough chan struct{} // closed when next need wait for no more records; nil if no leader waits

	io   sync.Mutex // held while a batch is written; guards what follows; taken before mu
	file *os.File   // nil once the log is closed
	torn bool       // a write failed half way and could not be taken back
}

// A batch is the records that go to the disk together.
type batch struct {
	data []byte        // under Log.mu until the batch is written, then its leader's
	n    int           // how many records; likewise
	led  atomic.Bool   // a leader writes it, or will
	done chan struct{} // closed when err is set
	err  error
}

// Expect says that n more records will come soon, or with a negative n that so many will
// come no more, or have come. Records wait for expected ones while many are expected, so
// that one fsync serves them all.
func (l *Log) Expect(n int) { l.expected.Add(int64(n)) }

// Expected returns how many records are expected.
func (l *Log) Expected() int { return int(l.expected.Load()) }

// enoughExpected reports whether a record need not wait for those that are expected. An
// fsync takes the processor as long as a P-256 signature does, so that it pays to have
// one for many records. But a few requests in flight, four for each processor, keep the
// processors at work until the disk has answered: then nothing is gained by a wait.
func (l *Log) enoughExpected() bool { return l.expected.Load() <= int64(busyPerCPU*runtime.NumCPU()) }

const (
	busyPerCPU = 4
	gatherFor  = time.Millisecond // how long a record waits for others at most
	maxSpare   = 64 << 10         // how long a buffer is kept for a later batch, in bytes: some 150 records
)

// Write appends r. When it returns nil the record is written, and with [SyncAlways] it is
// on the disk. It waits for the disk and not for a context: an answer without a record
// must not leave.
func (l *Log) Write(r *Record) error { return l.Append(r).Wait() }

// An Entry is a record on its way to the disk, together with those that came at about the
// same time.
type Entry struct {
	log   *Log
	batch *batch
}

// Append puts r in line. It copies r, which may change afterwards. The answer that r is
// the record of must not leave before [Entry.Wait] has returned nil.
func (l *Log) Append(r *Record) Entry {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.next == nil {
		l.next = &batch{data: l.spare, done: make(chan struct{})}
		l.spare = nil
	}
	l.next.data = append(r.appendJSON(l.next.data), '\n')
	l.next.n++

	if l.enough != nil && l.enoughExpected() {
		close(l.enough)
		l.enough = nil
	}
	return Entry{log: l, batch: l.next}
}

// Wait waits until the record is written, as [Log.Write] says. The first to wait for a
// batch leads it: as soon as the batch before is on the disk, it writes this one, with
// every record that has come by then.
func (e Entry) Wait() error {
	l, b := e.log, e.batch
	if b.led.CompareAndSwap(false, true) {
		l.io.Lock()
		if l.sync == SyncAlways {
			l.gather()
		}
		l.writeBatchLocked(b)
		l.io.Unlock()

		l.mu.Lock()
		if cap(b.data) <= maxSpare {
			l.spare = b.data[:0]
		}
		l.mu.Unlock()
	}

	<-b.done
	return b.err
}

// gather waits until few enough records are expected, but no longer than l.wait.
func (l *Log) gather() {
	l.mu.Lock()
	if l.enoughExpected() {
		l.mu.Unlock()
		return
	}
	enough := make(chan struct{})
	l.enough = enough
	l.mu.Unlock()

	late := time.NewTimer(l.wait)
	defer late.Stop()
	select {
	case <-enough:
	case <-late.C:
		l.mu.Lock()
		l.enough = nil
		l.mu.Unlock()
	}
}

// writeBatchLocked writes b, which is l.next and which the caller leads.
func (l *Log) writeBatchLocked(b *batch) {
	l.mu.Lock()
	l.next = nil // what comes from now on goes into the next batch
	l.mu.Unlock()

	b.err = l.writeLocked(b.data)
	close(b.done)
}

func (l *Log) writeLocked(data []byte) error {
	if l.file == nil {
		return errors.New("audit: the log is closed")
	}
	if l.torn {
		data = append([]byte{'\n'}, data...)
	}

	n, err := l.file.Write(data)
	if err != nil {
		if n > 0 && !l.takeBack(n) {
			l.torn = true
		}
		return fmt.Errorf("audit: %w", err)
	}
	l.torn = false

	if l.sync == SyncAlways {
		if err := l.file.Sync(); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	return nil
}
