package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps secrets in this process: no core dump, no ptrace and no
// /proc/self/mem for other processes of its user, and no file that others read.
func harden() error {
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("no core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	return nil
}
