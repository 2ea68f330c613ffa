package main

import (
	"runtime"
	"testing"
)

func TestProcs(t *testing.T) {
	if got := procs("", 2); got != 8 {
		t.Errorf("procs for 2 processors = %d, want 8", got)
	}
	if got := procs("3", 3); got != 3 {
		t.Errorf("procs with GOMAXPROCS=3 = %d, want 3", got)
	}
}

// TestAddProcsOnce: a process that serves a second time keeps its GOMAXPROCS.
func TestAddProcsOnce(t *testing.T) {
	addProcs()
	before := runtime.GOMAXPROCS(0)

	addProcs()
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("GOMAXPROCS = %d after another call, want %d", got, before)
	}
}
