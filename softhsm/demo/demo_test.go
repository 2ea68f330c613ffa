package main

import (
	"bytes"
	"testing"

	"signetd/softhsm"
)

// TestKMS runs `make demo-kms`. Nothing in it may go wrong, or take a token away
// from who asked for it.
func TestKMS(t *testing.T) {
	softhsm.New(t) // or skip, and its environment back at the end
	t.Chdir("../..")
	var out bytes.Buffer
	if err := runKMS(t.Context(), &story{out: &out}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
}
