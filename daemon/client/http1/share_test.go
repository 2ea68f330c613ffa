package http1

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// startSigns makes n calls for a key, whose ids begin with prefix, and returns a channel
// for their errors.
func startSigns(ctx context.Context, c *testPool, key, prefix string, n int) <-chan error {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- sign(ctx, c, key, fmt.Sprintf("%s%d", prefix, i)) }() // until it is answered or cancelled
	}
	return errs
}

// holdServer returns a server that reads requests and answers none until release is
// called; from then on it answers each as it comes.
func holdServer(t *testing.T) (s *rawServer, release func()) {
	t.Helper()
	held := make(chan struct{})
	s = newRawServer(t, func(_ int, c *rawConn) {
		var ids []string
		read := make(chan string)
		go func() { // until the client closes
			defer close(read)
			for id := c.next(); id != ""; id = c.next() {
				read <- id
			}
		}()
		for {
			select {
			case id, ok := <-read:
				if !ok {
					return
				}
				ids = append(ids, id)
				continue
			case <-held:
			}
			break
		}
		for _, id := range ids {
			c.say(echo(id))
		}
		for id := range read {
			c.say(echo(id))
		}
	})
	done := false
	release = func() {
		if !done {
			close(held)
		}
		done = true
	}
	t.Cleanup(release)
	return s, release
}

// shape returns how many calls are on each connection, the most first, and how many wait
// for a connection.
func shape(c *testPool) (depths []int, waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.open {
		depths = append(depths, p.depth())
	}
	slices.Sort(depths)
	slices.Reverse(depths)
	return depths, len(c.waiting)
}

// waitShape waits until the calls are spread in this way.
func waitShape(t *testing.T, c *testPool, depths []int, waiting int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("the connections have %v calls and %d calls wait", depths, waiting), func() bool {
		d, w := shape(c)
		return slices.Equal(d, depths) && w == waiting
	})
}

func finish(t *testing.T, errs <-chan error) {
	t.Helper()
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestSpread makes more and more calls: they use connections of their own, then share
// them, then wait.
func TestSpread(t *testing.T) {
	s, release := holdServer(t)
	c := newTestPool(s.socket)
	t.Cleanup(c.Close)
	c.bounds = bounds{connections: 4, spread: 2, depth: 3, slow: time.Hour}

	errs := startSigns(t.Context(), c, "k", "", 9)
	waitShape(t, c, []int{3, 3}, 3)

	other := startSigns(t.Context(), c, "other", "other", 1)
	waitShape(t, c, []int{3, 3, 1}, 3) // a key of its own, a connection of its own

	batch := make(chan error, 1)
	go func() { // until it is answered
		_, err := c.post(t.Context(), "", "{}") // a batch names no key
		batch <- err
	}()
	waitShape(t, c, []int{3, 3, 1, 1}, 3)

	more := startSigns(t.Context(), c, "other", "more", 1) // no connection is left, so it shares
	waitShape(t, c, []int{3, 3, 2, 1}, 3)
	third := startSigns(t.Context(), c, "third", "third", 1) // a third key cannot share
	waitShape(t, c, []int{3, 3, 2, 1}, 4)

	ctx, cancel := context.WithCancel(t.Context())
	left := startSigns(ctx, c, "third", "left", 1)
	waitShape(t, c, []int{3, 3, 2, 1}, 5)
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("a call that waits and is cancelled = %v", err)
	}
	waitShape(t, c, []int{3, 3, 2, 1}, 4)

	release()
	for _, e := range []<-chan error{errs, other, more, third} {
		finish(t, e)
	}
	if err := <-batch; err != nil {
		t.Error(err)
	}
	if n := s.connections(); n != 4 {
		t.Errorf("%d connections, want 4", n)
	}
	checkIdle(t, c)
}

// TestAlone makes calls one after the other: each takes one write and one read, all on
// the same connection.
func TestAlone(t *testing.T) {
	s := newRawServer(t, func(_ int, c *rawConn) { c.echoAll() })
	c := newTestPool(s.socket)
	var reads, writes, conns atomic.Int64
	countConns(c, &reads, &writes, &conns)
	for i := range 100 {
		if err := sign(t.Context(), c, "k", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if r, w, n := reads.Load(), writes.Load(), conns.Load(); r != 100 || w != 100 || n != 1 {
		t.Errorf("100 calls took %d reads and %d writes of %d connections, want 100 and 100 of 1", r, w, n)
	}
	checkIdle(t, c)
	c.Close()
}

// TestTogether has 20 calls wait for the only connection, which another call uses: all 20
// go out with one write.
func TestTogether(t *testing.T) {
	s, release := holdServer(t)
	c := narrow(t, s)
	var reads, writes, conns atomic.Int64
	countConns(c, &reads, &writes, &conns)
	c.bounds = bounds{connections: 1, spread: 1, depth: 1, slow: time.Hour}

	first := startSigns(t.Context(), c, "k", "first", 1)
	waitShape(t, c, []int{1}, 0)
	others := startSigns(t.Context(), c, "k", "", 20)
	waitShape(t, c, []int{1}, 20)
	c.mu.Lock()
	c.depth = 32
	c.mu.Unlock()

	release()
	finish(t, first)
	finish(t, others)
	if w := writes.Load(); w != 2 {
		t.Errorf("21 calls took %d writes, want 2", w)
	}
	checkIdle(t, c)
}

// TestSlowRunsSideBySide has a daemon that answers slowly: no call waits behind another on
// the same connection.
func TestSlowRunsSideBySide(t *testing.T) {
	s, release := holdServer(t)
	c := newTestPool(s.socket)
	t.Cleanup(c.Close)
	c.bounds = bounds{connections: 6, spread: 1, depth: 32, slow: -1}
	errs := startSigns(t.Context(), c, "k", "", 10)
	waitShape(t, c, []int{1, 1, 1, 1, 1, 1}, 4)
	release()
	finish(t, errs)
	checkIdle(t, c)
}

// TestHangDelaysNoOtherKey has the backend of one key hang while another key is used.
func TestHangDelaysNoOtherKey(t *testing.T) {
	s := newRawServer(t, func(_ int, c *rawConn) {
		for id := c.next(); id != ""; id = c.next() {
			if id[0] == 'h' {
				c.drain()
				return
			}
			c.say(echo(id))
		}
	})
	c := newTestPool(s.socket)
	ctx, cancel := context.WithCancel(t.Context())
	hanging := startSigns(ctx, c, "hangs", "h", 40)
	waitFor(t, "the calls are tracked", func() bool { return tracked(c) == 40 })
	finish(t, startSigns(t.Context(), c, "works", "w", 40))

	cancel()
	for range 40 {
		if err := <-hanging; !errors.Is(err, context.Canceled) {
			t.Errorf("a call that hangs = %v, want context.Canceled", err)
		}
	}
	checkIdle(t, c)
	c.Close()
}

// TestNoDaemonForMany has calls share a connection that cannot be made: all fail with the
// same error.
func TestNoDaemonForMany(t *testing.T) {
	c := newTestPool(t.TempDir() + "/none")
	c.spread = 1
	errs := startSigns(t.Context(), c, "k", "", 50)
	for range 50 {
		if err := <-errs; !isLost(err) || !errors.Is(err, syscall.ENOENT) {
			t.Errorf("sign() = %v, want ENOENT", err)
		}
	}
	checkIdle(t, c)
}

// A gatedConn sends the bytes of a write at once, and returns from it when letGo allows.
type gatedConn struct {
	net.Conn
	left, letGo chan struct{}
}

func (c gatedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.left <- struct{}{}
	<-c.letGo
	return n, err
}

// TestWriterIsLate has answers come before the write of their requests has returned. Calls
// that come to the connection meanwhile are written and answered nevertheless.
func TestWriterIsLate(t *testing.T) {
	s, release := holdServer(t)
	c := newTestPool(s.socket)
	t.Cleanup(c.Close)
	c.bounds = bounds{connections: 1, spread: 1, depth: 2, slow: time.Hour}
	left, letGo := make(chan struct{}, 10), make(chan struct{})
	dial := c.dial
	c.dial = func(deadline time.Time) (net.Conn, error) {
		conn, err := dial(deadline)
		return gatedConn{conn, left, letGo}, err
	}

	first := startSigns(t.Context(), c, "k", "first", 1)
	<-left
	letGo <- struct{}{}
	waitFor(t, "the first reads", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.open[0].reader != nil
	})

	second := startSigns(t.Context(), c, "k", "second", 1)
	<-left
	others := startSigns(t.Context(), c, "k", "", 2)
	waitShape(t, c, []int{2}, 2)

	release()
	finish(t, first)
	waitShape(t, c, []int{2}, 0) // the other two are on the connection
	close(letGo)
	finish(t, second)
	finish(t, others)
	checkIdle(t, c)
}
