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

	coming func() int // see [Log.Gather]
	busy   int        // the same
	wait   time.Duration

	mu     sync.Mutex // guards what follows
	next   *batch
	spare  []byte        // for the data of a batch
	enough chan struct{} // closed when next need wait for no more records; nil if nobody waits

	io   sync.Mutex // held while a batch is written; guards what follows
	file *os.File
	torn bool // a write failed half way and could not be taken back
}

// A batch is the records that go to the disk together.
type batch struct {
	data []byte
	n    int         // records
	led  atomic.Bool // somebody writes it, or will
	done chan struct{}
	err  error
}

// Open opens the log at path for appending, and makes it with mode 0600 if it is
// not there. A last line that a crash cut short is ended, and the new records
// follow it. Another process that has the log open is an error.
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
		if err := l.file.Sync(); err != nil { // a pipe or a terminal, on which every answer would fail
			return nil, errors.Join(fmt.Errorf("audit: %w: sync %q needs a file on a disk", err, SyncAlways), l.file.Close())
		}
	}
	return l, nil
}

func open(path string) (f *os.File, torn bool, err error) {
	f, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- the operator's config names the file
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if info.Mode()&os.ModeNamedPipe != 0 {
		return nil, false, fmt.Errorf("%s: a pipe: it holds up every answer once it is full", path)
	}
	if !info.Mode().IsRegular() {
		return f, false, nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // #nosec G115 -- a file descriptor
		return nil, false, fmt.Errorf("%s: another process has it open: %w", path, err)
	}
	if info, err = f.Stat(); err != nil { // as the process before left it
		return nil, false, err
	}
	if info.Size() == 0 {
		return f, false, nil
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return nil, false, err
	}
	return f, last[0] != '\n', nil
}

// Write appends r. When it returns nil the record is written, and with
// [SyncAlways] on the disk. It waits for the disk and not for a context: an
// answer without a record must not leave.
func (l *Log) Write(r *Record) error { return l.Append(r).Wait() }

// An Entry is a record on its way to the disk, in company of those that came at about
// the same time.
type Entry struct {
	log   *Log
	batch *batch
}

// Append puts r in line. What it is now is what will be written: r may change
// afterwards. Nobody may be answered before [Entry.Wait] has returned nil.
func (l *Log) Append(r *Record) Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = &batch{data: l.spare, done: make(chan struct{})}
		l.spare = nil
	}
	l.next.data = append(r.appendJSON(l.next.data), '\n')
	l.next.n++
	if l.enough != nil && l.coming() <= l.busy {
		close(l.enough)
		l.enough = nil
	}
	return Entry{log: l, batch: l.next}
}

// Wait waits until the record is written, as [Log.Write] says. Whoever waits first
// writes the record and all that are in line with it, as soon as the ones before are
// on the disk.
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

// writeBatchLocked writes b, which is next and whose leader the caller is.
func (l *Log) writeBatchLocked(b *batch) {
	l.mu.Lock()
	l.next = nil
	l.mu.Unlock()
	b.err = l.writeLocked(b.data)
	close(b.done)
}

// maxSpare is how long a buffer is kept for the next batch, in bytes: some 150 records.
const maxSpare = 64 << 10

// gatherFor is how long a record waits for others at most.
const gatherFor = time.Millisecond

// Gather has a record that is to be on the disk wait for others, while more than busy
// requests are on their way to the log: so many keep the processors at work until the
// disk has answered. An fsync takes the processor as long as a P-256 signature does, so
// that it pays to have one for many records; and with few requests in flight nobody
// waits. coming says how many are on their way; it is called by many goroutines.
func (l *Log) Gather(coming func() int, busy int) { l.coming, l.busy = coming, busy }

// gather waits until few enough are on their way.
func (l *Log) gather() {
	l.mu.Lock()
	if l.coming == nil || l.coming() <= l.busy {
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

// takeBack cuts off the n bytes of a record that was not written whole. It asks for the
// file's size only now: another program may have made the file shorter since.
func (l *Log) takeBack(n int) bool {
	info, err := l.file.Stat()
	return err == nil && info.Size() >= int64(n) && l.file.Truncate(info.Size()-int64(n)) == nil
}

// Reopen opens the log's path again, for a log that was moved away to be
// rotated. If that fails the log goes on in the file that it has.
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
		return nil
	}
	file, torn, err := open(l.path)
	if err != nil {
		return fmt.Errorf("audit: reopen: %w", err)
	}
	old := l.file
	l.file, l.torn = file, torn
	return old.Close()
}

// Close ends the log. Records that come later are refused.
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
	if errors.Is(err, unix.EINVAL) { // a pipe or a terminal: it has no disk
		err = nil
	}
	err = errors.Join(err, l.file.Close())
	l.file = nil
	return err
}

// writeRestLocked writes records that nobody has waited for.
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
