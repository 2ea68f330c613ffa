package main

import (
	"bytes"
	"testing"

	"signetd/softhsm"
)

// TestKMS runs `make demo-kms`, which fails at the first step with a wrong result.
func TestKMS(t *testing.T) {
	softhsm.New(t) // skips the test without SoftHSM2, and restores the environment at the end
	t.Chdir("../..")
	var out bytes.Buffer
	if err := runKMS(t.Context(), &story{out: &out}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
}
