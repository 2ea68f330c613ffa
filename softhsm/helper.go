package softhsm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"signetd/softhsm/faultp11"
)

// Signetd builds signetd, once per process, and returns its path. Processes that
// do so at once wait for each other; go build does nothing if the program is up
// to date.
func Signetd() (path string, err error) { return signetd() }

var signetd = sync.OnceValues(func() (bin string, err error) {
	return faultp11.Build("signetd", func(dir string) (string, error) {
		bin := filepath.Join(dir, "signetd")
		cmd := exec.Command("go", "build", "-o", bin, "signetd/cmd/signetd") // #nosec G204 -- fixed words
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build signetd: %w: %s", err, bytes.TrimSpace(out))
		}
		return bin, nil
	})
})
