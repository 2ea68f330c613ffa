package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxSocketPath is the length of the longest path that programs can connect to on
// every system: macOS has 104 bytes for it, with a zero at the end.
const MaxSocketPath = 103

// A SocketConfig says where the daemon listens.
type SocketConfig struct {
	Path string
	Mode os.FileMode // of the socket
	GID  int         // group of the socket; -1 leaves it
}

// A Socket is a listening Unix socket that removes its path when it is closed.
type Socket struct {
	*net.UnixListener
	path string
	info os.FileInfo // of the socket's file
	lock *os.File
}

// ListenUnix binds a socket. It makes the socket in a directory that no other user can
// enter, sets its mode and group there, and only then moves it to its path: so no process
// can connect, even for a moment, that the mode does not let in. A socket that is in the
// way is replaced if no process answers on it. Anything else in the way is an error.
func ListenUnix(c SocketConfig) (s *Socket, err error) {
	lock, err := lockPath(c.Path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
			err = fmt.Errorf("socket %s: %w", c.Path, err)
		}
	}()
	if err := checkStale(c.Path); err != nil {
		return nil, err
	}

	dir, err := os.MkdirTemp(filepath.Dir(c.Path), ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // MkdirTemp gives mode 0700

	private := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: private, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the listener knows only the path that the socket moves away from
	defer func() {
		if err != nil {
			l.Close()
		}
	}()

	if c.GID >= 0 {
		if err := os.Lchown(private, -1, c.GID); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(private, c.Mode.Perm()); err != nil {
		return nil, err
	}
	if err := os.Rename(private, c.Path); err != nil {
		return nil, err
	}

	info, err := os.Lstat(c.Path)
	if err != nil {
		return nil, err
	}
	return &Socket{UnixListener: l, path: c.Path, info: info, lock: lock}, nil
}

// lockPath takes the lock that keeps a second daemon from replacing the socket between
// checkStale and the move. The lock's file stays: if it were removed, two processes could
// hold locks on two files of one name. A symbolic link is not followed: in a directory that
// other users can write to, it would make a daemon of root create a file wherever it points.
func lockPath(path string) (*os.File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600) // #nosec G304 -- the operator's config names the path
	if err != nil {
		return nil, fmt.Errorf("socket: its directory must exist and be writable: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // #nosec G115 -- a file descriptor
		lock.Close()
		return nil, fmt.Errorf("socket %s: another signetd serves it: %w", path, err)
	}
	return lock, nil
}

// checkStale returns nil if nothing is at path, or a socket that refuses
// connections.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return errors.New("a file that is not a socket is in the way")
	}

	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return errors.New("another process answers on it already")
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("cannot tell whether another process answers on it: %w", err)
}

// Path returns where the socket is.
func (s *Socket) Path() string { return s.path }

// Unlink removes the path, so that no further process connects, unless another socket has
// taken the path since.
func (s *Socket) Unlink() error {
	if at, err := os.Lstat(s.path); err == nil && os.SameFile(at, s.info) {
		return os.Remove(s.path)
	}
	return nil
}

// Close unlinks the path and stops listening. A second call does nothing.
func (s *Socket) Close() error {
	var errs []error
	for _, err := range []error{s.Unlink(), s.UnixListener.Close(), s.lock.Close()} {
		if !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
