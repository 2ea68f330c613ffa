//go:build linux && cgo

package load

import (
	"slices"
	"testing"

	"signetd/softhsm/bench/report"
)

// pkcs11-tool does the work of each algorithm that is measured.
func TestToolAlgs(t *testing.T) {
	for _, alg := range append(slices.Clone(report.SignAlgs), report.OAEP) {
		target, err := newTool(t.Context(), Job{Alg: alg})
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	}
}
