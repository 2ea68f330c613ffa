//go:build cgo && unix

package pkcs11_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"signetd/backends/pkcs11"
	"signetd/softhsm"
)

// The numbers of the control file, as in testdata/shim.c.
const (
	initializes = iota
	finalizes
	logins
	logouts
	opens
	closes
	signs
	decrypts
	running
	violations
	dropped
	leftOpen
	tokenInfos
	sessionInfos
	gotArgs
)

const (
	rvLogin = iota + 16
	rvOpen
	rvSignInit
	rvSign
	rvDecryptInit
	rvDecrypt
	rvTokenInfo
	rvFind
)

const (
	gate = iota + 32
	tokenFlags
	maxSessions
	flip
	short
	brokenSlot
	noRaw
	loginGate
	noPSS
	instant
	numbers = 64
)

const (
	fault = iota + 48
	faultAt
	faultUntil
	faultLeft
	faultBorder
	faultHold
	lastSession
	wantArgs
	openLimit
)

const (
	atSignInit    = 1
	atSign        = 2
	atSessionInfo = 4
	atAll         = 0xff
)

const (
	byCount = iota + 1
	bySession
	byFind
	byLogin
	byInitialize
)

// A shim is a module that stands before SoftHSM2, counts calls and has faults.
type shim struct {
	path    string
	control []byte
}

// removeAfter is a folder that outlives the test that made it: the module in it
// stays loaded.
var removeAfter string

var shimPath = sync.OnceValues(func() (string, error) {
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "signetd-shim")
	if err != nil {
		return "", err
	}
	removeAfter = dir
	path := filepath.Join(dir, "shim.so")
	cc := exec.Command("cc", "-shared", "-fPIC", "-O1", "-I"+strings.TrimSpace(string(headers)), "-o", path, "testdata/shim.c", "-ldl")
	cc.Stderr = os.Stderr
	return path, cc.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if removeAfter != "" {
		_ = os.RemoveAll(removeAfter)
	}
	os.Exit(code)
}

// newShim puts a shim before token. When the test ends it checks that no call
// was running when the token was logged out or finalised, and that every
// session was closed.
func newShim(t *testing.T, token *softhsm.Token) (*shim, pkcs11.Config) {
	t.Helper()
	path, err := shimPath()
	if err != nil {
		t.Fatal(err)
	}
	control := filepath.Join(t.TempDir(), "control")
	if err := os.WriteFile(control, make([]byte, 8*numbers), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &shim{path: path}
	s.control, err = syscall.Mmap(int(f.Fd()), 0, 8*numbers, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	t.Setenv("SHIM_MODULE", token.Module())
	t.Setenv("SHIM_CONTROL", control)
	t.Cleanup(func() {
		if n := s.get(violations); n != 0 {
			t.Errorf("%d times a call was running at C_Logout or C_Finalize", n)
		}
		if n := s.get(leftOpen); n != 0 {
			t.Errorf("%d sessions were open when the module was finalised for the last time", n)
		}
		if i, f := s.get(initializes), s.get(finalizes); i != f {
			t.Errorf("C_Initialize %d times, C_Finalize %d times", i, f)
		}
		_ = syscall.Munmap(s.control)
	})
	cfg := token.Config()
	cfg.Module = path
	return s, cfg
}

func (s *shim) number(i int) *uint64 {
	return (*uint64)(unsafe.Pointer(&s.control[8*i])) // #nosec G103 -- a mapped page is aligned
}

func (s *shim) get(i int) uint64    { return atomic.LoadUint64(s.number(i)) }
func (s *shim) set(i int, v uint64) { atomic.StoreUint64(s.number(i), v) }
