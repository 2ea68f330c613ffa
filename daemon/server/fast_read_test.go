package server

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"signetd/daemon"
)

// newFastConn returns a connection that no goroutine serves, and its peer's end.
func newFastConn(t *testing.T, f *fixture) (*fastConn, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		if ends[i], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
		t.Cleanup(func() { ends[i].Close() })
	}
	c := &conn{UnixConn: ends[0].(*net.UnixConn), peer: me(), tracker: f.server.tracker}
	return &fastConn{fastPath: f.server.fast, conn: c, in: make([]byte, 0, firstBuffer), started: true}, ends[1]
}

// TestDrainedReads: what was sent before the server drains is read also if the time to
// read the request before is over.
func TestDrainedReads(t *testing.T) {
	f := serve(t, daemon.Limits{})
	l, peer := newFastConn(t, f)
	if _, err := io.WriteString(peer, "GET"); err != nil {
		t.Fatal(err)
	}
	if err := l.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	f.server.draining.Store(true)
	if l.drained() || string(l.in) != "GET" {
		t.Errorf("%q was read", l.in)
	}
	if l.in = l.in[:0]; !l.drained() {
		t.Error("there is more")
	}
}

// TestReadBy: each request has the whole time to be read, from when it has begun, and no
// more however it comes.
func TestReadBy(t *testing.T) {
	f := serve(t, daemon.Limits{})
	l, _ := newFastConn(t, f)
	const wait = time.Hour
	l.in = l.in[:1]
	l.readBy = time.Now().Add(time.Second) // of the request before
	if l.setReadBy(wait); time.Until(l.readBy) < wait/2 {
		t.Error("a request has what was left of the time of the one before")
	}
	over := time.Unix(1, 0)
	l.readBy = over
	if l.setReadBy(wait); l.readBy != over {
		t.Error("a request that is late gets more time")
	}
}

// TestBehindStuck: no records are expected for requests behind one that is stuck.
func TestBehindStuck(t *testing.T) {
	b := newStuckBackend(t)
	f := serveOver(t, daemon.Limits{Timeout: 100 * time.Millisecond}, b)
	c := f.dial(t)
	b.stick()
	if _, err := io.WriteString(c, strings.Repeat(usualPost(goodJWT), 3)); err != nil {
		t.Fatal(err)
	}
	readAnswers(t, c, 1)
	if n := f.log.Expected(); n != 0 {
		t.Errorf("%d records are expected", n)
	}
	b.release()
}
