//go:build cgo && unix

package pkcs11_test

import (
	"fmt"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/softhsm"
	"signetd/softhsm/faultp11"
)

// newFaulty puts the fault module before token. When the test ends it checks that
// no two calls shared a session, that no call was running when its session was
// closed, the token logged out or the module finalised, and that every session
// was closed.
func newFaulty(t *testing.T, token *softhsm.Token) (*faultp11.Module, pkcs11.Config) {
	t.Helper()
	f := faultp11.New(t, token.Module())
	t.Cleanup(func() {
		for _, name := range []string{"shared-session", "busy-close", "busy-logout", "busy-finalize"} {
			if n := f.Count(name).Calls; n != 0 {
				t.Errorf("%s: %d times", name, n)
			}
		}
		if n := f.Count("left-open").Running; n != 0 {
			t.Errorf("%d sessions were open when the module was finalised for the last time", n)
		}
		if i, n := succeeded(f, "C_Initialize"), succeeded(f, "C_Finalize"); i != n {
			t.Errorf("C_Initialize %d times, C_Finalize %d times", i, n)
		}
	})

	cfg := token.Config()
	cfg.Module = f.Module()
	return f, cfg
}

// answers returns the rule by which every call of function answers rv.
func answers(function string, rv uint) string { return fmt.Sprintf("%s * rv=%#x", function, rv) }

// calls returns how often function was called, and succeeded how often it returned CKR_OK.
func calls(f *faultp11.Module, function string) int { return f.Count(function).Calls }

func succeeded(f *faultp11.Module, function string) int {
	n := f.Count(function)
	return n.Calls - n.Failed
}
