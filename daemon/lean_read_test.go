package daemon

import (
	"io"
	"strings"
	"testing"
	"time"

	"signetd/daemon/api"
)

// TestComingPanics: nothing counts as coming to the log behind a request that panicked, or
// one that is stuck.
func TestComingPanics(t *testing.T) {
	f := serve(t, Limits{})
	saved := routes[api.PathVersion]
	defer func() { routes[api.PathVersion] = saved }()
	boom := saved
	boom.serve = nil
	routes[api.PathVersion] = boom
	c := f.dial(t)
	get := "GET " + api.PathVersion + " HTTP/1.1\r\nHost: signetd\r\n\r\n"
	if _, err := io.WriteString(c, strings.Repeat(get, 3)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Log(err)
	}
	for range 1000 {
		if f.service.coming.Load() == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d requests are still coming", f.service.coming.Load())
}

// TestComingStuck: so it is behind one that is stuck.
func TestComingStuck(t *testing.T) {
	b := newStuckBackend(t)
	f := serveOver(t, Limits{Timeout: 100 * time.Millisecond}, b)
	c := f.dial(t)
	b.stick()
	if _, err := io.WriteString(c, strings.Repeat(plainPost(goodJWT), 3)); err != nil {
		t.Fatal(err)
	}
	readAnswers(t, c, 1)
	if n := f.service.coming.Load(); n != 0 {
		t.Errorf("%d requests are still coming", n)
	}
	b.release()
}
