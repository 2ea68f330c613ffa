package server

import (
	"io"
	"strings"
	"testing"

	"signetd/daemon"
	"signetd/daemon/api"
)

// TestLineFeeds: a head whose lines end in LF alone is whole for net/http, which answers
// it, and is not waited for.
func TestLineFeeds(t *testing.T) {
	f := serve(t, daemon.Limits{})
	c := f.dial(t)
	if _, err := io.WriteString(c, "GET "+api.GetHealth.Path+" HTTP/1.1\nHost: signetd\n\n"); err != nil {
		t.Fatal(err)
	}
	if a := readAnswers(t, c, 1)[0]; a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestConnectionHeaders: that the connection ends counts, whatever else is said of it.
func TestConnectionHeaders(t *testing.T) {
	h, found := readHead([]byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n"))
	if found != complete || !h.last {
		t.Errorf("%+v, %v", h, found)
	}
}

// TestGrow: a long head that comes in one piece is read in a few, each of which is looked
// through from its beginning.
func TestGrow(t *testing.T) {
	l := &fastConn{in: make([]byte, 0, firstBuffer)}
	n := 0
	for ; len(l.in) < maxHeader; n++ {
		l.grow(len(l.in) + 1)
		l.in = append(l.in, strings.Repeat("x", cap(l.in)-len(l.in))...)
	}
	if n > 4 {
		t.Errorf("%d reads for a head of %d bytes", n, maxHeader)
	}
}
