package audit

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

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

// takeBack cuts off the last n bytes, of a record that was not written whole. It asks for
// the file's size only now: another program may have made the file shorter since.
func takeBack(f *os.File, n int) bool {
	info, err := f.Stat()
	return err == nil && info.Size() >= int64(n) && f.Truncate(info.Size()-int64(n)) == nil
}
