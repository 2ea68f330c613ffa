package daemon

import (
	"io"
	"testing"

	"signetd/daemon/api"
)

// TestLineFeeds: a head whose lines end in LF alone is whole for net/http, which answers
// it, and is not waited for.
func TestLineFeeds(t *testing.T) {
	f := serve(t, Limits{})
	c := f.dial(t)
	if _, err := io.WriteString(c, "GET "+api.PathHealth+" HTTP/1.1\nHost: signetd\n\n"); err != nil {
		t.Fatal(err)
	}
	if a := readAnswers(t, c, 1)[0]; a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestConnectionHeaders: that the connection ends counts, whatever else is said of it.
func TestConnectionHeaders(t *testing.T) {
	h, found := readHead([]byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n"))
	if found != plain || !h.last {
		t.Errorf("%+v, %v", h, found)
	}
}
