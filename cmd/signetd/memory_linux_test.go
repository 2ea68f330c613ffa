package main

import (
	"slices"
	"testing"
)

// TestUnchangedMappings: only what is the file's alone is dropped. The second mapping is the
// one that the dynamic linker has written to.
func TestUnchangedMappings(t *testing.T) {
	const smaps = `00402000-010cd000 r-xp 00002000 fe:00 10021940                           /usr/bin/signetd
Size:              13100 kB
Rss:               13084 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
0203e000-0203f000 r--p 01c3d000 fe:00 10021940                           /usr/bin/signetd
Size:                  4 kB
Anonymous:             4 kB
0203f000-020f5000 rw-p 01c3e000 fe:00 10021940                           /usr/bin/signetd
Anonymous:             0 kB
020f5000-04183000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 fe:00 7                          /usr/lib/libc.so.6
Anonymous:             0 kB
010cd000-0203e000 r--p 00ccd000 fe:00 10021940                           /usr/bin/signetd
Anonymous:             0 kB
`
	want := []mapping{{0x402000, 0x10cd000}, {0x10cd000, 0x203e000}}
	if got := unchanged([]byte(smaps), "/usr/bin/signetd"); !slices.Equal(got, want) {
		t.Errorf("unchanged() = %x, want %x", got, want)
	}
	if got := unchanged([]byte(smaps), "/usr/bin/other"); len(got) != 0 {
		t.Errorf("of another program: %x", got)
	}
}
