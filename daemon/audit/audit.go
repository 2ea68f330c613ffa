// Package audit keeps the record of who asked for what and how it ended: one
// JSON object a line, in a file that is only appended to. The daemon answers
// nothing that is not in it.
//
// A record names the request, never what was in it: no claims, no plaintext, no
// key. What was signed can be matched later by its digest.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
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
	// Digest is what the key signed, or what a verified signature is on, in base64url: for
	// a JWS the hash of its signing input, with the hash of alg. It identifies the token.
	// The signature would not: an ECDSA signature has a valid twin that anybody can compute.
	Digest string `json:"digest,omitempty"`
	// Object is the SHA-256, in base64url, of the JWE that was received or made, or of the
	// bytes of an encrypted key.
	Object string `json:"object_sha256,omitempty"`
	// To is the recipient, if it is not Key: a name of the config, or "jwk" and the RFC 7638
	// thumbprint of a key in the request.
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

// Open opens the log at path for appending, and makes it with mode 0600 if it does not
// exist. If a crash cut the last line short, the line is ended and the new records follow
// it. It is an error if another process has the log open.
func Open(path string, sync Sync) (*Log, error) {
	if sync != SyncAlways && sync != SyncNever {
		return nil, fmt.Errorf("audit: sync is %q or %q, not %q", SyncAlways, SyncNever, sync)
	}

	l := &Log{path: path, sync: sync, wait: gatherFor}
	var err error
	if l.file, l.torn, err = open(path); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if sync == SyncAlways {
		if err := l.file.Sync(); err != nil { // a pipe or a terminal, on which every answer would be withheld
			return nil, errors.Join(fmt.Errorf("audit: %w: sync %q needs a file on a disk", err, SyncAlways), l.file.Close())
		}
	}
	return l, nil
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
		if n > 0 && !takeBack(l.file, n) {
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

// Reopen opens the log's path again, after something moved the file away to rotate it. If
// that fails, the log goes on in the file that it has.
func (l *Log) Reopen() error {
	l.io.Lock()
	defer l.io.Unlock()
	if l.file == nil {
		return errors.New("audit: the log is closed")
	}

	have, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if at, err := os.Stat(l.path); err == nil && os.SameFile(have, at) {
		return nil // nothing was moved
	}

	file, torn, err := open(l.path)
	if err != nil {
		return fmt.Errorf("audit: reopen: %w", err)
	}
	old := l.file
	l.file, l.torn = file, torn
	return old.Close()
}

// Close writes what is in line and ends the log. Records that come later are refused.
func (l *Log) Close() error {
	l.io.Lock()
	defer l.io.Unlock()
	if l.file == nil {
		return nil
	}

	err := l.writeRestLocked()
	if err == nil {
		err = l.file.Sync()
	}
	if errors.Is(err, unix.EINVAL) { // a pipe or a terminal has no disk
		err = nil
	}

	err = errors.Join(err, l.file.Close())
	l.file = nil
	return err
}

// writeRestLocked writes the records that are in line and have no leader.
func (l *Log) writeRestLocked() error {
	l.mu.Lock()
	b := l.next
	l.mu.Unlock()
	if b == nil || !b.led.CompareAndSwap(false, true) {
		return nil
	}
	l.writeBatchLocked(b)
	return b.err
}

// appendJSON appends exactly the bytes that encoding/json makes of r, in a fraction of the
// time: every answer waits for its record. A time outside the years 0 to 9999, for which
// encoding/json fails, is written all the same.
func (r *Record) appendJSON(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = r.Time.AppendFormat(b, time.RFC3339Nano)
	b = appendString(append(b, `","request":`...), r.Request)
	b = appendNonZero(b, `,"item":`, int64(r.Item))
	b = r.Peer.appendJSON(append(b, `,"peer":`...))
	b = appendString(append(b, `,"op":`...), r.Op)
	b = appendNonEmpty(b, `,"key":`, r.Key)
	b = appendNonEmpty(b, `,"kid":`, r.KID)
	b = appendNonEmpty(b, `,"alg":`, r.Alg)
	b = appendString(append(b, `,"outcome":`...), r.Outcome)
	b = appendNonEmpty(b, `,"reason":`, r.Reason)
	b = appendNonEmpty(b, `,"rule":`, r.Rule)
	b = appendNonEmpty(b, `,"jti":`, r.JTI)
	b = appendNonZero(b, `,"exp":`, r.Exp)
	b = appendNonEmpty(b, `,"digest":`, r.Digest)
	b = appendNonEmpty(b, `,"object_sha256":`, r.Object)
	b = appendNonEmpty(b, `,"to":`, r.To)
	b = appendNonEmpty(b, `,"signed_by":`, r.SignedBy)
	if len(r.WouldDeny) > 0 {
		b = appendDenials(append(b, `,"would_deny":`...), r.WouldDeny)
	}
	return append(b, '}')
}

func (p Peer) appendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"uid":`...), uint64(p.UID), 10)
	b = strconv.AppendUint(append(b, `,"gid":`...), uint64(p.GID), 10)
	b = strconv.AppendInt(append(b, `,"pid":`...), int64(p.PID), 10)
	return append(b, '}')
}

func appendDenials(b []byte, denials []Denial) []byte {
	b = append(b, '[')
	for i, d := range denials {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"rule":`...), d.Rule)
		b = append(appendNonEmpty(b, `,"claim":`, d.Claim), '}')
	}
	return append(b, ']')
}

// appendNonEmpty appends a member unless its value is "". name is the text before the value,
// with comma, quotes and colon.
func appendNonEmpty(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

// appendNonZero is appendNonEmpty for a number.
func appendNonZero(b []byte, name string, value int64) []byte {
	if value == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), value, 10)
}

// appendString appends s in quotes. encoding/json writes a string that is not plain ASCII,
// or that has a character which it escapes.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string has no error
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
