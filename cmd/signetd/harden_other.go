//go:build !linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps secrets inside this process: it writes no core dump, and other users can
// read no file that it makes.
func harden() error {
	unix.Umask(0o077)

	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("cannot forbid core dumps: %w", err)
	}
	return nil
}
