package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps secrets inside this process: it writes no core dump, other processes of
// its user can neither ptrace it nor read its memory through /proc, and other users can
// read no file that it makes.
func harden() error {
	unix.Umask(0o077)

	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("cannot forbid core dumps: %w", err)
	}

	// A process that is not dumpable has its /proc files owned by root, and ptrace needs
	// CAP_SYS_PTRACE (prctl(2), ptrace(2)).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot hide its memory from other processes: %w", err)
	}
	return nil
}
