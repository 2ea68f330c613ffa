package server

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func listen(t *testing.T, path string) *Socket {
	t.Helper()
	s, err := ListenUnix(SocketConfig{Path: path, Mode: 0o640, GID: os.Getgid()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := listen(t, path)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o640 {
		t.Errorf("mode is %v, %v; want a socket with 0640", info.Mode(), err)
	}
	if _, err := ListenUnix(SocketConfig{Path: path, Mode: 0o600, GID: -1}); err == nil || !strings.Contains(err.Error(), "another signetd") {
		t.Errorf("a second ListenUnix = %v, want an error", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close() = %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != "s.lock" {
		t.Errorf("left behind: %v, %v; want the lock alone", entries, err)
	}
}

// TestStaleSocket: what a killed daemon leaves is replaced, and nothing else.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	other, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	other.SetUnlinkOnClose(false)
	if _, err := ListenUnix(SocketConfig{Path: path, Mode: 0o600, GID: -1}); err == nil || !strings.Contains(err.Error(), "answers") {
		t.Errorf("a socket on which another process answers = %v, want an error", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	s := listen(t, path)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestSomethingInTheWay(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a file":      func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a link":      func(path string) error { return os.Symlink("/nonexistent", path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			if _, err := ListenUnix(SocketConfig{Path: path, Mode: 0o600, GID: -1}); err == nil || !strings.Contains(err.Error(), "in the way") {
				t.Errorf("ListenUnix() = %v, want an error", err)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("what was there is gone: %v", err)
			}
		})
	}
	if _, err := ListenUnix(SocketConfig{Path: "/nonexistent/s", Mode: 0o600, GID: -1}); err == nil {
		t.Error("ListenUnix() in no directory = nil, want an error")
	}
}

// TestUnlinkOther: a socket that took our place is not ours to remove.
func TestUnlinkOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := listen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("what took the socket's place is gone: %v", err)
	}
}

func TestPeer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := listen(t, path)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := s.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	p, err := peerOf(accepted)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if int(p.UID) != os.Getuid() || int(p.GID) != os.Getgid() || int(p.PID) != os.Getpid() || len(p.Groups) != len(groups) {
		t.Errorf("peerOf() = %+v, want uid %d, gid %d, pid %d, groups %v", p, os.Getuid(), os.Getgid(), os.Getpid(), groups)
	}
}

func TestListenUnixFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	path, target := filepath.Join(dir, "s"), filepath.Join(dir, "target")
	if err := os.Symlink(target, path+".lock"); err != nil {
		t.Fatal(err)
	}
	s, err := ListenUnix(SocketConfig{Path: path, Mode: 0o600, GID: -1})
	if err == nil {
		t.Error("ListenUnix() follows a link in the place of its lock", s.Close())
	}
	if _, err := os.Lstat(target); !os.IsNotExist(err) {
		t.Errorf("where the link points there is something now: %v", err)
	}
}
