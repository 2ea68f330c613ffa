package http1

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// pipeline puts n calls with the ids "0", "1" and so on on one connection in this order,
// and returns channels for their errors.
func pipeline(t *testing.T, c *testPool, n int) (errs []chan error) {
	t.Helper()
	for i := range n {
		err := make(chan error, 1)
		errs = append(errs, err)
		go func() { err <- sign(t.Context(), c, "k", fmt.Sprint(i)) }() // until it is answered
		waitFor(t, "the call is tracked", func() bool { return tracked(c) == i+1 })
	}
	return errs
}

// tracked returns how many calls are on connections.
func tracked(c *testPool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.open {
		n += len(p.calls)
	}
	return n
}

// reading returns how many connections a call reads.
func reading(c *testPool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.open {
		if p.reader != nil {
			n++
		}
	}
	return n
}

// TestPipeline has five calls share the first connection, on which the server answers in
// all ways, right and wrong. Further connections answer as they should.
func TestPipeline(t *testing.T) {
	long := strings.Repeat("x", 3*readBuffer)
	all := []string{"0", "1", "2", "3", "4"}
	echoes := echo("0") + echo("1") + echo("2") + echo("3") + echo("4")
	tests := []struct {
		name   string
		first  func(*rawConn)
		failed []string // without an answer
		again  []string // asked twice
	}{
		{"answered at once", func(c *rawConn) { c.say(echoes) }, nil, nil},
		{"answered one by one", func(c *rawConn) { c.say(echo("0"), echo("1"), echo("2"), echo("3"), echo("4")) }, nil, nil},
		{"answered byte by byte", func(c *rawConn) { c.say(strings.Split(echoes, "")...) }, nil, nil},
		{"answered in chunks", func(c *rawConn) { c.say(echo("0"), echoChunked("1"), echoChunked("2")+echoChunked("3"), echo("4")) }, nil, nil},
		{"answered in chunks byte by byte", func(c *rawConn) {
			c.say(strings.Split(echoChunked("0")+echoChunked("1")+echo("2")+echoChunked("3")+echo("4"), "")...)
		}, nil, nil},
		{"provisional answers first", func(c *rawConn) {
			c.say("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"+echo("0")+echo("1")+"HTTP/1.1 100 Continue\r\n\r\n"+echo("2"), echo("3"), echo("4"))
		}, nil, nil},
		{"long head", func(c *rawConn) {
			c.say(echo("0"), echoWith("1", "X: "+long[:readBuffer/2]+"\r\n")+echo("2")+echo("3")+echo("4"))
		}, nil, nil},
		{"answer longer than the buffer", func(c *rawConn) {
			c.say(echo("0") + fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", len(tokenBody("1"))+len(long), tokenBody("1"), strings.Repeat(" ", len(long))) + echo("2") + echo("3") + echo("4"))
		}, nil, nil},
		{"closed", func(*rawConn) {}, nil, all},
		{"closed after two answers", func(c *rawConn) { c.say(echo("0") + echo("1")) }, nil, all[2:]},
		{"closed after a provisional answer", func(c *rawConn) { c.say(echo("0") + "HTTP/1.1 100 Continue\r\n\r\n") }, nil, all[1:]},
		{"torn in the head", func(c *rawConn) { c.say(echo("0") + "HTTP/1.1 200") }, all[1:2], all[2:]},
		{"torn in the body", func(c *rawConn) { c.say(echo("0") + echo("1")[:80]) }, all[1:2], all[2:]},
		{"torn in a chunk", func(c *rawConn) { c.say(echo("0") + echoChunked("1")[:60]) }, all[1:2], all[2:]},
		{"torn behind a chunk", func(c *rawConn) { s := echoChunked("1"); c.say(echo("0") + s[:len(s)-2]) }, all[1:2], all[2:]},
		{"says that it closes", func(c *rawConn) {
			c.say(echo("0") + echoWith("1", "Connection: close\r\n"))
			c.drain()
		}, nil, all[2:]},
		{"says that it closes, and goes on", func(c *rawConn) {
			c.say(echo("0") + echoWith("1", "connection:  Close\r\n") + echo("surplus"))
			c.drain()
		}, nil, all[2:]},
		{"body ends with the connection", func(c *rawConn) {
			c.say(echo("0") + "HTTP/1.1 200 OK\r\n\r\n" + tokenBody("1"))
		}, nil, all[2:]},
		{"no HTTP", func(c *rawConn) { c.say(echo("0") + "SSH-2.0-x\r\n" + echo("2")); c.drain() }, all[1:2], all[2:]},
		{"two lengths", func(c *rawConn) { c.say(echo("0") + echoWith("1", "Content-Length: 3\r\n")); c.drain() }, all[1:2], all[2:]},
		{"head without end", func(c *rawConn) { c.say(echo("0") + "HTTP/1.1 200 OK\r\nX: " + long); c.drain() }, all[1:2], all[2:]},
		{"more answers than requests", func(c *rawConn) { c.say(echoes + echo("surplus")); c.drain() }, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			begin := make(chan struct{})
			s := newRawServer(t, func(n int, c *rawConn) {
				if n > 0 {
					c.echoAll()
					return
				}
				if got := c.need(len(all)); !slices.Equal(got, all) {
					t.Errorf("the first connection has %v, want %v", got, all)
				}
				<-begin
				tt.first(c)
				if len(tt.failed)+len(tt.again) == 0 {
					c.echoAll()
				}
			})
			c := narrow(t, s)
			errs := pipeline(t, c, len(all))
			close(begin)

			for i, id := range all {
				err := <-errs[i]
				if failed := slices.Contains(tt.failed, id); failed != (err != nil) || failed && !isLost(err) {
					t.Errorf("call %s = %v, want it to fail: %v", id, err, failed)
				}
				want := 1
				if slices.Contains(tt.again, id) {
					want = 2
				}
				if n := s.timesAsked(id); n != want {
					t.Errorf("call %s was asked %d times, want %d", id, n, want)
				}
			}
			if err := sign(t.Context(), c, "k", "after"); err != nil {
				t.Errorf("a call after it: %v", err)
			}
			checkIdle(t, c)
		})
	}
}

// checkIdle checks that no call and no byte of one is left on a connection.
func checkIdle(t *testing.T, c *testPool) {
	t.Helper()
	w := c.ConnPool
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open) != len(w.idle) || len(w.waiting) > 0 {
		t.Errorf("%d connections are open, %d idle, %d calls wait", len(w.open), len(w.idle), len(w.waiting))
	}
	for _, p := range w.open {
		if len(p.calls)+p.live+p.reserved+len(p.out) > 0 || p.reader != nil || p.writer != nil || p.dead || p.retired {
			t.Errorf("an idle connection has %d calls, %d live, %d reserved, %d bytes to write", len(p.calls), p.live, p.reserved, len(p.out))
		}
		if in, _ := p.in.Peek(0); len(in) > 0 {
			t.Errorf("an idle connection has %q", in)
		}
	}
}

// TestAskedTwice has a daemon that never answers: a call is sent twice and no more.
func TestAskedTwice(t *testing.T) {
	hangUp := make(chan struct{})
	s := newRawServer(t, func(n int, c *rawConn) {
		if n == 0 {
			c.need(3)
			<-hangUp
			return
		}
		c.need(1)
	})
	c := narrow(t, s)
	errs := pipeline(t, c, 3)
	close(hangUp)

	for i, err := range errs {
		if err := <-err; !isLost(err) {
			t.Errorf("call %d = %v, want the end of the connection", i, err)
		}
		if n := s.timesAsked(fmt.Sprint(i)); n != 2 {
			t.Errorf("call %d was asked %d times, want 2", i, n)
		}
	}
	if n := s.connections(); n != 4 {
		t.Errorf("%d connections, want the first and one for each call", n)
	}
	checkIdle(t, c)
}

// TestOwnAnswers has many goroutines share few connections, whose server answers in all
// forms and in pieces: each call gets its own answer.
func TestOwnAnswers(t *testing.T) {
	s := newRawServer(t, func(n int, c *rawConn) {
		r := rand.New(rand.NewPCG(uint64(n), 1)) // #nosec G404 -- the same at each run
		forms := []func(string) string{echo, echo, echo, echoChunked, func(id string) string { return "HTTP/1.1 100 Continue\r\n\r\n" + echo(id) }}
		out := ""
		for id := c.next(); id != ""; id = c.next() {
			out += forms[r.IntN(len(forms))](id)
			if c.in.Buffered() > 0 {
				continue
			}
			for len(out) > 0 {
				k := 1 + r.IntN(len(out))
				c.say(out[:k])
				out = out[k:]
			}
		}
	})
	c := newTestPool(s.socket)
	c.slow = time.Hour
	run := func(goroutines, times int) {
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for i := range times {
					ctx := t.Context()
					if g%3 == 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, time.Minute)
						defer cancel()
					}
					if err := sign(ctx, c, "k", fmt.Sprintf("%d-%d", g, i)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}

	run(64, 200)
	if n := s.connections(); n > 8 {
		t.Errorf("%d connections, want 8 at most", n)
	}
	run(1000, 40) // more than the connections have room for
	checkIdle(t, c)
	c.Close()
	checkNoGoroutines(t)
}

// checkNoGoroutines checks that no goroutine is left in a method of a pool or a call.
func checkNoGoroutines(t *testing.T) {
	t.Helper()
	var text strings.Builder
	waitFor(t, "the goroutines end", func() bool {
		text.Reset()
		if err := pprof.Lookup("goroutine").WriteTo(&text, 2); err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(text.String(), "http1.(*ConnPool)") && !strings.Contains(text.String(), "http1.(*Call)")
	})
}
