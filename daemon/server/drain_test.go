package server

import (
	"context"
	"errors"
	"io"
	"testing"

	"signetd/daemon"
)

// TestShutdownSaysWhatIsLeft: a drain that ends before all is answered says so.
func TestShutdownSaysWhatIsLeft(t *testing.T) {
	b := newStuckBackend(t)
	f := serveOver(t, daemon.Limits{}, b)
	c := f.dial(t)
	entered := b.stick()
	if _, err := io.WriteString(c, usualPost(goodJWT)); err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown() = %v although a request is being worked on", err)
	}
	b.release()
	if a := readAnswers(t, c, 1)[0]; a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}
