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

// Signetd builds the daemon, once per process, and returns the path of the program.
// Processes that build at the same time wait for each other; go build does nothing
// if the program is up to date. It needs the go command, and works from any module
// that requires this one.
func Signetd() (path string, err error) { return signetd() }

var signetd = sync.OnceValues(func() (bin string, err error) {
	return faultp11.Build("signetd", func(dir string) (string, error) {
		bin := filepath.Join(dir, "signetd")

		source, err := goTool("list", "-find", "-f", "{{.Module.Dir}}", "signetd/softhsm")
		if err != nil {
			return "", err
		}

		// The build runs in this module's own folder. In the folder of a module that
		// imports the kit, go.sum lacks what only the daemon needs.
		if _, err := goTool("build", "-C", source, "-mod=readonly", "-buildvcs=false", "-o", bin, "./cmd/signetd"); err != nil {
			return "", err
		}
		return bin, nil
	})
})

func goTool(command string, args ...string) (stdout string, err error) {
	cmd := exec.Command("go", append([]string{command}, args...)...) // #nosec G204 -- our own arguments
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if command == "build" {
		cmd.Env = append(cmd.Env, "GOWORK=off") // the workspace may not list this module's requirements
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", command, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(bytes.TrimSpace(out)), nil
}
