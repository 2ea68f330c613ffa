package audit

import (
	"path/filepath"
	"runtime"
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
	few := busyPerCPU * runtime.NumCPU()

	l.Expect(few + 1)
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
		t.Errorf("a record did not wait, though one more than few were on their way: %v", err)
	default:
	}
	l.Expect(-1)
	last := l.Append(&Record{Request: "last"})
	if err := <-written; err != nil {
		t.Error(err)
	}
	if err := last.Wait(); err != nil || last.batch != first.batch || first.batch.n != 3 {
		t.Errorf("the last of three is written with %d, %v; want all three together", first.batch.n, err)
	}
	if err := l.Write(&Record{Request: "alone"}); err != nil { // with few expected no record waits
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
	l.Expect(busyPerCPU*runtime.NumCPU() + 100)
	for range 3 {
		if err := l.Write(&Record{Request: "x"}); err != nil {
			t.Error(err)
		}
	}
}
