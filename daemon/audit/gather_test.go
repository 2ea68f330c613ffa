package audit

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// TestGather has a record wait while many are on their way, and go with those that came
// when few are.
func TestGather(t *testing.T) {
	l, err := Open(filepath.Join(t.TempDir(), "audit.jsonl"), SyncAlways)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // what matters was waited for
	l.wait = time.Hour
	var coming atomic.Int64
	l.Gather(func() int { return int(coming.Load()) }, 4)

	coming.Store(5)
	first := l.Append(&Record{Request: "first"})
	written := make(chan error)
	go func() { written <- first.Wait() }()
	for waits := false; !waits; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		waits = l.enough != nil
		l.mu.Unlock()
	}
	if second := l.Append(&Record{Request: "second"}); second.batch != first.batch {
		t.Error("a record that came while another waited is not written with it")
	}
	select {
	case err := <-written:
		t.Errorf("a record did not wait, though 5 were on their way and 4 are enough: %v", err)
	default:
	}
	coming.Store(4)
	last := l.Append(&Record{Request: "last"})
	if err := <-written; err != nil {
		t.Error(err)
	}
	if err := last.Wait(); err != nil || last.batch != first.batch || first.batch.n != 3 {
		t.Errorf("the last of three is written with %d, %v; want all three together", first.batch.n, err)
	}
	if err := l.Write(&Record{Request: "alone"}); err != nil { // with few on their way nobody waits
		t.Error(err)
	}
}

// TestGatherEnds has a record wait no longer than it should for some that never come.
func TestGatherEnds(t *testing.T) {
	l, err := Open(filepath.Join(t.TempDir(), "audit.jsonl"), SyncAlways)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // what matters was waited for
	l.Gather(func() int { return 100 }, 4)
	for range 3 {
		if err := l.Write(&Record{Request: "x"}); err != nil {
			t.Error(err)
		}
	}
}
