//go:build linux && cgo

package tokens

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is the time that a program may take to start or to stop on a busy machine.
const patience = 20 * time.Second

// ours is in the environment of the programs that tests have started.
const ours = "SIGNETD_TEST_TOKEN=1"

// run runs a program to its end.
func run(stdin, name string, args ...string) error {
	cmd := exec.Command(name, args...) // #nosec G204 -- the caller's fixed words
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, bytes.TrimSpace(out))
	}
	return nil
}

// start starts a program and returns its process id. When the test ends, the program is
// stopped with all processes that it has started.
func start(tb testing.TB, name string, args ...string) (pid int) {
	tb.Helper()
	said, err := os.CreateTemp(tb.TempDir(), filepath.Base(name))
	if err != nil {
		tb.Fatal(err)
	}
	defer said.Close()

	cmd := exec.Command(name, args...) // #nosec G204 -- the caller's fixed words
	cmd.Env = append(os.Environ(), ours)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}

	tb.Cleanup(func() {
		if tb.Failed() {
			out, _ := os.ReadFile(said.Name())
			tb.Logf("%s said: %s", filepath.Base(name), bytes.TrimSpace(out))
		}
		if err := stop(cmd); err != nil {
			tb.Errorf("stop %s: %v", filepath.Base(name), err)
		}
	})
	return cmd.Process.Pid
}

// stop ends a program and its process group.
func stop(cmd *exec.Cmd) error {
	group := -cmd.Process.Pid
	ended := make(chan struct{})
	go func() { // ends with the program
		_ = cmd.Wait() // a signal ended it
		close(ended)
	}()

	if err := syscall.Kill(group, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	select {
	case <-ended:
	case <-time.After(patience / 4):
	}

	// Processes of the group that SIGTERM did not end.
	if err := syscall.Kill(group, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	<-ended
	return nil
}

// wait waits until ready returns nil.
func wait(tb testing.TB, what string, ready func() error) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := ready()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s is not ready after %v: %v", what, patience, err)
		}
	}
}

func exists(path string) func() error {
	return func() error {
		_, err := os.Stat(path)
		return err
	}
}

// socketDir returns a folder with a short path. A socket's path has at most 107 bytes, and
// those in t.TempDir are longer.
func socketDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "tok")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// children returns the processes that pid has started.
func children(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, name := range stats {
		f, err := os.Open(name) // #nosec G304 -- of /proc
		if err != nil {
			continue // it has ended
		}
		text, err := io.ReadAll(f)
		_ = f.Close()
		if err != nil {
			continue
		}

		// proc_pid_stat(5): "pid (name) state parent ...", and the name may contain ')'.
		var child, parent int
		var state string
		if i := bytes.LastIndexByte(text, ')'); i > 0 {
			if _, err := fmt.Sscan(string(text[i+1:]), &state, &parent); err != nil || parent != pid {
				continue
			}
			if _, err := fmt.Sscan(string(text), &child); err == nil {
				found = append(found, child)
			}
		}
	}
	return found, nil
}
