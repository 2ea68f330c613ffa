package audit

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

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

// open opens or makes the file, and locks it if it is a regular one. torn says that its
// last line has no end.
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

	// The size is asked for again, now that no other process writes.
	if info, err = f.Stat(); err != nil {
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

// takeBack cuts off the n bytes of a record that was not written whole. It asks for the
// file's size only now: another program may have made the file shorter since.
func (l *Log) takeBack(n int) bool {
	info, err := l.file.Stat()
	return err == nil && info.Size() >= int64(n) && l.file.Truncate(info.Size()-int64(n)) == nil
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
