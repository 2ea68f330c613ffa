package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// gcPercent has the collector run a third as often as by default: little is live in
// the daemon, and what requests leave behind is a few kilobytes each.
const gcPercent = 300

// settle gives back what only the start needed: garbage, and the mapped pages of the
// program itself, of which the initialisation of the cloud SDKs has touched nearly all.
// Those that are needed again come back from the page cache, without the disk. It is
// no matter if that cannot be done.
func settle() {
	debug.SetGCPercent(gcPercent)
	debug.FreeOSMemory()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		var from, to uintptr
		var access, offset, device, inode, path string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s %s %s %s %s", &from, &to, &access, &offset, &device, &inode, &path); err != nil {
			continue // it maps no file
		}
		if path == self && access[1] == '-' { // pages that are not written are the file's, and nothing is lost
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED) // see above
		}
	}
}
