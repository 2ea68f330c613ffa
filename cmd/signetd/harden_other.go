//go:build !linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps secrets in this process: no core dump, and no file that others
// read.
func harden() error {
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("no core dumps: %w", err)
	}
	return nil
}
