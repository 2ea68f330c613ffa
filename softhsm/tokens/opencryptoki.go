//go:build linux && cgo

package tokens

import (
	"bytes"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Where opencryptoki keeps its files. None of these paths can be configured.
const (
	ockConfig = "/etc/opencryptoki/opencryptoki.conf"
	ockLocks  = "/run/lock/opencryptoki/swtok"
	ockData   = "/var/lib/opencryptoki/swtok"
	ockShared = "/dev/shm/var.lib.opencryptoki.swtok"
	ockSocket = "/run/pkcsslotd.socket"
	ockPID    = "/run/pkcsslotd.pid"
	ockLabel  = "signetd-test"
)

// NewOpencryptoki starts the software token of opencryptoki, with its daemon
// pkcsslotd. Three wrong PINs lock it. Debian's build has RSA, HMAC and AES-CBC,
// and no elliptic curves, no AES-GCM, no AES key wrap.
//
// There is one such token on a machine. So one test at a time uses it, also across
// processes, and it is never taken from another user: the test is skipped, or fails, if a
// pkcsslotd runs already or the token is set up. It needs root.
func NewOpencryptoki(tb testing.TB) *Token {
	tb.Helper()
	paths := need(tb, "opencryptoki", library("opencryptoki/libopencryptoki.so.0"), program("pkcsslotd"), program("pkcsconf"))
	if os.Geteuid() != 0 {
		missing(tb, "the token opencryptoki needs root")
	}

	lockFile(tb, filepath.Join(os.TempDir(), "signetd-opencryptoki.lock"))
	slot, err := ockSlot()
	if err == nil {
		err = ockFree()
	}
	if err != nil {
		missing(tb, err.Error())
	}

	if err := errors.Join(ockErase(), ockFolders()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := ockErase(); err != nil {
			tb.Error(err)
		}
	})

	start(tb, paths[1], "-f")
	wait(tb, "pkcsslotd", exists(ockSocket))
	t := newToken(tb, paths[0], ockLabel)
	t.lacks = noGCM
	t.generate = t.keygen

	so, first := randomPIN(), randomPIN()
	conf := func(stdin string, args ...string) {
		if err == nil {
			err = run(stdin, paths[2], append(args, "-c", slot)...)
		}
	}
	conf(ockLabel+"\n", "-I", "-S", "87654321") // the PIN of a new token
	conf("", "-P", "-S", "87654321", "-n", so)
	conf("", "-u", "-S", so, "-n", first)
	conf("", "-p", "-U", first, "-n", t.pin) // the user must change the PIN once
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// lockFile holds a lock until the test ends. It is released after all cleanups that are
// registered later.
func lockFile(tb testing.TB, path string) {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- a fixed name
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		tb.Fatal(err)
	}
}

var ockSlots = regexp.MustCompile(`slot\s+(\d+)\s*\{[^}]*stdll\s*=\s*libpkcs11_sw\.so[^}]*\}`)

// ockSlot returns the number of the software token's slot.
func ockSlot() (string, error) {
	text, err := os.ReadFile(ockConfig)
	if err != nil {
		return "", err
	}
	match := ockSlots.FindSubmatch(text)
	if match == nil {
		return "", errors.New(ockConfig + " has no slot with stdll = libpkcs11_sw.so")
	}
	return string(match[1]), nil
}

// ockFree returns an error if the token is in use. The caller holds the lock.
func ockFree() error {
	// A daemon that a killed test has left behind is stopped.
	if pid, environ := ockDaemon(); pid != 0 {
		if !bytes.Contains(environ, []byte(ours)) {
			return errors.New("a pkcsslotd runs already: the tests leave its tokens alone")
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
		_ = os.Remove(ockSocket) // the daemon may have left it
	}

	data, err := os.ReadFile(filepath.Join(ockData, "NVTOK.DAT"))
	if err != nil || bytes.Contains(data, []byte(ockLabel)) {
		return nil //nolint:nilerr // without the file the token was never used
	}
	if _, err := os.Stat(filepath.Join(ockData, "MK_USER")); err == nil {
		return errors.New("opencryptoki's software token is set up: the tests do not erase it")
	}
	return nil
}

// ockDaemon returns the process id and the environment of a pkcsslotd that runs.
func ockDaemon() (pid int, environ []byte) {
	text, err := os.ReadFile(ockPID)
	if err != nil {
		return 0, nil
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, nil
	}

	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if name, err := os.ReadFile(filepath.Join(proc, "comm")); err != nil || strings.TrimSpace(string(name)) != "pkcsslotd" { // #nosec G304 -- of /proc
		return 0, nil
	}
	environ, err = os.ReadFile(filepath.Join(proc, "environ")) // #nosec G304 -- of /proc
	if err != nil || len(environ) == 0 {
		return 0, nil // it has ended, and its parent has not waited for it
	}
	return pid, environ
}

// ockErase brings the token back to the state of a new one.
func ockErase() error {
	var errs []error
	for _, pattern := range []string{ockData + "/MK_*", ockData + "/NVTOK.DAT", ockData + "/TOK_OBJ/*", ockShared} {
		files, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, f := range files {
			errs = append(errs, os.Remove(f))
		}
	}
	return errors.Join(errs...)
}

// ockFolders makes the folders that systemd-tmpfiles makes on a host with systemd.
func ockFolders() error {
	group, err := user.LookupGroup("pkcs11")
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return err
	}

	for _, dir := range []string{filepath.Dir(ockLocks), ockLocks} {
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		if err := errors.Join(os.MkdirAll(dir, 0o770), os.Chmod(dir, 0o770), os.Chown(dir, -1, gid)); err != nil { // #nosec G301 G302 -- of the group pkcs11
			return err
		}
	}
	return nil
}
