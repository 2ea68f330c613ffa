package softhsm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// helper builds signetd, once per process, and returns its path. Processes that do so at once wait for each other; go build does nothing if
// the program is up to date.
var helper = sync.OnceValues(func() (bin string, err error) {
	dir, err := helperDir()
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

// helperDir is build/ in this repository, and a cache folder for other modules
// that import this package.
func helperDir() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Path}}\n{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w: package softhsm needs the go command and a module", err)
	}
	name, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if name == "signetd" {
		return filepath.Join(dir, "build", "test"), nil
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "signetd"), err
}
