package supervise_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"signetd/signer/supervise"
)

// TestContext: a Context behaves like the contexts of the standard library, and only it,
// not its children, is supervised.
func TestContext(t *testing.T) {
	over := supervise.NewContext(0)
	if !errors.Is(over.Err(), context.DeadlineExceeded) {
		t.Errorf("past: %v", over.Err())
	}
	<-over.Done()
	soon := supervise.NewContext(10 * time.Millisecond)
	child, cancel := context.WithCancel(soon)
	defer cancel()
	if supervise.Supervised(child) || !supervise.Supervised(soon) {
		t.Error("a child is supervised, or its parent is not")
	}
	<-child.Done()
	if !errors.Is(child.Err(), context.DeadlineExceeded) {
		t.Errorf("child: %v", child.Err())
	}
	ended := supervise.NewContext(time.Hour)
	done := ended.Done()
	ended.End(context.Canceled)
	<-done
	if !errors.Is(ended.Err(), context.Canceled) {
		t.Errorf("ended: %v", ended.Err())
	}
}
