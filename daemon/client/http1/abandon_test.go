package http1

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestAbandon ends the context of one of five calls that share a connection, the first,
// the second and so on. That call returns at once, and the others get their answers.
func TestAbandon(t *testing.T) {
	for abandoned := range 5 {
		t.Run(fmt.Sprintf("call %d", abandoned), func(t *testing.T) {
			answer := make(chan struct{})
			closed := make(chan struct{})
			s := newRawServer(t, func(n int, c *rawConn) {
				if n > 0 {
					c.echoAll()
					return
				}
				ids := c.need(5)
				<-answer
				for _, id := range ids {
					c.say(echo(id))
				}
				c.drain()
				close(closed)
			})
			c := narrow(t, s)
			var errs []chan error
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for i := range 5 {
				err := make(chan error, 1)
				errs = append(errs, err)
				its := t.Context()
				if i == abandoned {
					its = ctx
				}
				go func() { err <- sign(its, c, "k", fmt.Sprint(i)) }() // until it is answered
				waitFor(t, "the call is tracked", func() bool { return tracked(c) == i+1 })
			}
			waitFor(t, "the requests are read", func() bool { return s.timesAsked("4") == 1 })

			cancel()
			if err := <-errs[abandoned]; !errors.Is(err, context.Canceled) {
				t.Errorf("call %d = %v, want context.Canceled", abandoned, err)
			}
			if err := sign(t.Context(), c, "k", "meanwhile"); err != nil || s.connections() != 2 {
				t.Errorf("a call meanwhile = %v, on connection %d; want the second", err, s.connections())
			}

			close(answer)
			for i, err := range errs {
				if i == abandoned {
					continue
				}
				if err := <-err; err != nil {
					t.Errorf("call %d = %v", i, err)
				}
			}
			<-closed
			checkIdle(t, c)
		})
	}
}

// TestAbandonAll ends all calls of a connection by their deadline: the connection is
// closed.
func TestAbandonAll(t *testing.T) {
	closed := make(chan struct{})
	s := newRawServer(t, func(_ int, c *rawConn) {
		c.drain()
		close(closed)
	})
	c := narrow(t, s)
	c.timeout = 50 * time.Millisecond
	for i, err := range pipeline(t, c, 5) {
		if err := <-err; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("call %d = %v, want context.DeadlineExceeded", i, err)
		}
	}
	<-closed
	checkIdle(t, c)
}

// TestAbandonInTheMiddle ends the call that reads a long answer: the connection cannot be
// used any more, and the call behind it is sent again.
func TestAbandonInTheMiddle(t *testing.T) {
	said := make(chan struct{})
	s := newRawServer(t, func(n int, c *rawConn) {
		if n > 0 {
			c.echoAll()
			return
		}
		c.need(2)
		c.say("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", strings.Repeat(" ", 900_000)) // more than the socket holds: the client has begun to read
		close(said)
		c.drain()
	})
	c := narrow(t, s)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := make(chan error, 1)
	go func() { first <- sign(ctx, c, "k", "first") }() // until it is cancelled
	// Otherwise the second may become the reader, and would wait for the rest of an answer
	// that never comes.
	waitFor(t, "the first call reads", func() bool { return reading(c) == 1 })
	second := make(chan error, 1)
	go func() { second <- sign(t.Context(), c, "k", "second") }() // until it is answered

	<-said
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first = %v, want context.Canceled", err)
	}
	if err := <-second; err != nil || s.timesAsked("second") != 2 {
		t.Errorf("the second = %v, asked %d times; want it to ask again", err, s.timesAsked("second"))
	}
	checkIdle(t, c)
}

// TestAbandonUnread sends more than the socket holds to a server that does not read. Calls
// end nevertheless when their context does, whether they write or wait for the writer.
func TestAbandonUnread(t *testing.T) {
	hold := make(chan struct{})
	s := newRawServer(t, func(int, *rawConn) { <-hold })
	t.Cleanup(func() { close(hold) })
	c := narrow(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	big, small := strings.Repeat("x", 600_000), strings.Repeat("x", maxShared/2)
	errs := make(chan error, 64)
	for i := range cap(errs) {
		body := small
		if i%16 == 0 {
			body = big
		}
		go func() { // until it is cancelled
			_, err := c.post(ctx, "k", body)
			errs <- err
		}()
	}

	waitFor(t, "the calls are tracked", func() bool { return tracked(c) >= 36 })
	cancel()
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("post() = %v, want context.Canceled", err)
		}
	}
	checkIdle(t, c)
}

// TestCloseWaits closes the pool while calls share a connection: they are answered first.
func TestCloseWaits(t *testing.T) {
	answer := make(chan struct{})
	s := newRawServer(t, func(_ int, c *rawConn) {
		ids := c.need(3)
		<-answer
		for _, id := range ids {
			c.say(echo(id))
		}
		c.drain()
	})
	c := narrow(t, s)
	errs := pipeline(t, c, 3)
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }() // until the calls are answered
	waitFor(t, "the pool is closed for new calls", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.closed
	})

	if err := sign(t.Context(), c, "k", "late"); !errors.Is(err, ErrClosed) {
		t.Errorf("a late call = %v, want ErrClosed", err)
	}
	select {
	case <-closed:
		t.Error("Close() returned before the answers")
	default:
	}

	close(answer)
	for i, err := range errs {
		if err := <-err; err != nil {
			t.Errorf("call %d = %v", i, err)
		}
	}
	<-closed
	if n := len(c.open); n != 0 {
		t.Errorf("%d connections are open after Close()", n)
	}
}

// TestConcurrentChaos has calls end early, connections close and answers come all at the
// same time. Each call gets its own answer or a fitting error.
func TestConcurrentChaos(t *testing.T) {
	s := newRawServer(t, func(n int, c *rawConn) {
		r := rand.New(rand.NewPCG(uint64(n), 2)) // #nosec G404 -- the same at each run
		for id := c.next(); id != ""; id = c.next() {
			switch r.IntN(60) {
			case 0:
				return
			case 1:
				c.say(echo(id)[:20])
				return
			case 2:
				c.say(echoWith(id, "Connection: close\r\n"))
				return
			default:
				c.say(echo(id))
			}
		}
	})
	c := newTestPool(s.socket)
	c.slow = time.Hour
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[string]int{}
	for g := range 64 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3)) // #nosec G404 -- the same at each run
			for i := range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(10) == 0 {
					time.AfterFunc(time.Duration(r.IntN(1000))*time.Microsecond, cancel)
				}
				err := sign(ctx, c, "k", fmt.Sprintf("%d-%d", g, i))
				cancel()
				kind := "answered"
				switch {
				case errors.Is(err, context.Canceled):
					kind = "abandoned"
				case isLost(err):
					kind = "failed"
				case err != nil:
					t.Error(err)
				}
				mu.Lock()
				count[kind]++
				mu.Unlock()
			}
		})
	}

	wg.Wait()
	if count["answered"] < 64*100/2 {
		t.Errorf("of 6400 calls: %v", count)
	}
	checkIdle(t, c)
	c.Close()
	checkNoGoroutines(t)

	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range s.asked {
		if n > 2 {
			t.Errorf("call %s was asked %d times", id, n)
		}
	}
	if n := len(c.open); n != 0 {
		t.Errorf("%d connections are open after Close()", n)
	}
}
