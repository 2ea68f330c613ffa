package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

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
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range unchanged(smaps, self) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED) // see above
	}
}

// A mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// unchanged returns the mappings of a program's file that cannot be written and of
// which every page is the file's, by smaps (proc(5)). Not all are: the dynamic linker
// writes addresses into pages that it makes read-only afterwards, and to drop one of
// these ends the process.
func unchanged(smaps []byte, program string) (list []mapping) {
	var m mapping
	candidate := false
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"): // the first line of a mapping
			_, err := fmt.Sscanf(fields[0], "%x-%x", &m.from, &m.to)
			candidate = err == nil && len(fields) == 6 && fields[5] == program && fields[1][1] == '-'
		case candidate && len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0":
			list = append(list, m)
		}
	}
	return list
}
