package main

import (
	"io"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHarden: each command that reads a PIN hides its memory first. The commands run
// with arguments that make them fail right after that.
func TestHarden(t *testing.T) {
	umask := unix.Umask(0o077)
	t.Cleanup(func() { unix.Umask(umask) })

	for _, args := range [][]string{
		{"serve", "-c", "/nonexistent"},
		{"check", "-c", "/nonexistent"},
		{"dev", "--dir", "/nonexistent"},
		{"hsm", "init", "--module", "/nonexistent", "--token", "t", "--pin-file", "/nonexistent", "--so-pin-file", "/nonexistent"},
		{"hsm", "keygen", "--module", "/nonexistent", "--token", "t", "--pin-file", "/nonexistent", "--label", "l", "--type", "ec-p256"},
	} {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
			t.Fatal(err)
		}

		cmd := root()
		cmd.SetArgs(slices.Clone(args))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%v: no error", args)
		}

		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil || dumpable != 0 {
			t.Errorf("%v: dumpable is %d, %v", args, dumpable, err)
		}
	}

	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
}
