package audit_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"signetd/daemon/audit"
)

func open(t *testing.T, path string, sync audit.Sync) *audit.Log {
	t.Helper()
	l, err := audit.Open(path, sync)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func record(id string) *audit.Record {
	return &audit.Record{Time: time.Unix(1_800_000_000, 0).UTC(), Request: id, Peer: audit.Peer{UID: 1, GID: 2, PID: 3}, Op: "sign-jwt", Outcome: "ok"}
}

// lines returns the request ids of the records in the file at path.
func lines(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range bytes.Lines(data) {
		var r audit.Record
		if json.Unmarshal(line, &r) == nil && bytes.HasSuffix(line, []byte("\n")) {
			ids = append(ids, r.Request)
		} else {
			ids = append(ids, "TORN")
		}
	}
	return ids
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for _, id := range []string{"a", "b"} {
		l, err := audit.Open(path, audit.SyncAlways)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Write(record(id)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Write(record("late")); err == nil {
			t.Error("Write() after Close = nil, want an error")
		}
	}
	if got := strings.Join(lines(t, path), " "); got != "a b" {
		t.Errorf("the log holds %s, want a b", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v; want 0600", info.Mode(), err)
	}
}

func TestWriteConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := open(t, path, audit.SyncAlways)
	const writers, each = 64, 20
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := l.Write(record("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := lines(t, path); len(got) != writers*each || strings.Contains(strings.Join(got, ""), "TORN") {
		t.Errorf("%d records, want %d whole ones", len(got), writers*each)
	}
}

func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte(`{"time":"2026-11-22T00:00:00Z","requ`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path, audit.SyncNever)
	for _, id := range []string{"a", "b"} {
		if err := l.Write(record(id)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(lines(t, path), " "); got != "TORN a b" {
		t.Errorf("the log holds %s, want TORN a b", got)
	}
}

// TestFull writes to a full disk: the caller learns of it. It is a device that
// cannot be synced, which the caller learns before.
func TestFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}
	if _, err := audit.Open("/dev/full", audit.SyncAlways); err == nil {
		t.Error("Open() of a device to be synced = nil, want an error")
	}
	l, err := audit.Open("/dev/full", audit.SyncNever)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Write(record("a")); err == nil {
			t.Error("Write() to a full disk = nil, want an error")
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestSecondProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	open(t, path, audit.SyncAlways)
	if l, err := audit.Open(path, audit.SyncAlways); err == nil {
		t.Errorf("Open() of a log that is open = nil, want an error")
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, path := range []string{"/nonexistent/audit.jsonl", t.TempDir()} {
		if _, err := audit.Open(path, audit.SyncAlways); err == nil {
			t.Errorf("Open(%s) = nil, want an error", path)
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Open(pipe, audit.SyncNever); err == nil {
		t.Error("Open() of a pipe = nil, want an error")
	}
	if _, err := audit.Open(filepath.Join(t.TempDir(), "x"), "sometimes"); err == nil {
		t.Error("Open(sync sometimes) = nil, want an error")
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := open(t, path, audit.SyncAlways)
	write := func(id string) {
		t.Helper()
		if err := l.Write(record(id)); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	if err := l.Reopen(); err != nil { // nothing was moved
		t.Fatal(err)
	}
	write("b")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("c")
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	write("d")
	if got := strings.Join(lines(t, path+".1"), " "); got != "a b c" {
		t.Errorf("the old log holds %s, want a b c", got)
	}
	if got := strings.Join(lines(t, path), " "); got != "d" {
		t.Errorf("the new log holds %s, want d", got)
	}
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err == nil {
		t.Error("Reopen() of a directory = nil, want an error")
	}
	write("e")
	if got := strings.Join(lines(t, path+".2"), " "); got != "d e" {
		t.Errorf("the log that stays holds %s, want d e", got)
	}
}
