package softhsm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"signetd/softhsm/faultp11"
)

// Signetd builds signetd, once per process, and returns its path. Processes that
// do so at once wait for each other; go build does nothing if the program is up
// to date.
func Signetd() (path string, err error) { return signetd() }

var signetd = sync.OnceValues(func() (bin string, err error) {
	dir, err := faultp11.BuildDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "signetd.lock"), os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- in our own folder
	if err != nil {
		return "", err
	}
	defer lock.Close() // and so unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	bin = filepath.Join(dir, "signetd")
	cmd := exec.Command("go", "build", "-o", bin, "signetd/cmd/signetd") // #nosec G204 -- fixed words
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build signetd: %w: %s", err, bytes.TrimSpace(out))
	}
	return bin, nil
})
