//go:build cgo

package faultp11_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/softhsm"
	"signetd/softhsm/faultp11"
)

// A quiet is a test whose failures are the test's subject.
type quiet struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (q *quiet) Cleanup(f func())          { q.cleanups = append(q.cleanups, f) }
func (q *quiet) Errorf(f string, _ ...any) { q.errors = append(q.errors, f) }

func TestMistakes(t *testing.T) {
	token := softhsm.New(t)
	rules := []string{
		"C_Sing 1 rv=CKR_DEVICE_ERROR", "C_Sign", "C_Sign 1", "C_Sign 0 hang", "C_Sign 3-2 hang", "C_Sign x hang", "C_Sign 1 rv=CKR_NO",
		"C_Sign 1 rv=", "C_Sign 1 sleep=5", "C_Sign 1 sleep=-5ms", "C_Sign 1 explode", "C_GetFunctionList 1 rv=5", "sessions", "sessions many",
		"sessions 3 loud", "C_Sign 1 rv=5 until=C_Sing", "C_Sign 1 rv=5 until=", "dead-slot", "dead-slot x", "init-args", "token-flags USER_PIN_LOCKED", "token-flags +NO_SUCH_FLAG", "serial", "serial 01234567890123456",
		"C_Sign 1 " + strings.Repeat("flip ", 40),
	}

	for _, rule := range rules {
		q := &quiet{TB: t}
		f := faultp11.New(q, token.Module())
		f.Inject(rule)
		ctx := p11.New(f.Module())
		if err := ctx.Initialize(); err == nil {
			t.Errorf("C_Initialize takes %q", rule)
			_ = ctx.Finalize()
		}
		for _, cleanup := range slices.Backward(q.cleanups) {
			cleanup()
		}
		if len(q.errors) != 1 {
			t.Errorf("%q does not fail the test: %q", rule, q.errors)
		}
	}
}

// The stats file is the same, whether the package or the module makes it.
func TestStatsFile(t *testing.T) {
	token := softhsm.New(t)
	f := faultp11.New(t, token.Module())
	stats := filepath.Join(t.TempDir(), "stats")
	t.Setenv("FAULTP11_STATS", stats)
	ctx := p11.New(f.Module())
	if ctx == nil {
		t.Fatal("the module does not load")
	}
	got, err := os.ReadFile(stats)
	if err != nil {
		t.Fatal(err)
	}
	if want := faultp11.EmptyStats(); !bytes.Equal(got, want) {
		t.Errorf("the module made\n%s\nwant\n%s", got, want)
	}
}

func TestNoModule(t *testing.T) {
	token := softhsm.New(t)
	f := faultp11.New(t, token.Module())
	for _, module := range []string{"", "/nowhere/libsofthsm2.so", "/etc/hostname"} {
		t.Setenv("FAULTP11_MODULE", module)
		if err := p11.New(f.Module()).Initialize(); err == nil {
			t.Errorf("C_Initialize works before the module %q", module)
		}
	}
}
