//go:build signetdpath

package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/coverage"
	"strings"
)

// This file is compiled into the daemon under measurement and is no part of this program. It obeys commands on file descriptor 3 and reports on 4.
func init() {
	commands, reports := os.NewFile(3, "commands"), os.NewFile(4, "reports")
	go func() { // ends with the daemon
		for lines := bufio.NewScanner(commands); lines.Scan(); {
			var err error
			command, dir, _ := strings.Cut(lines.Text(), " ")
			switch command {
			case "clear":
				err = coverage.ClearCounters()
			case "write":
				if err = coverage.WriteMetaDir(dir); err == nil {
					err = coverage.WriteCountersDir(dir)
				}
			}
			fmt.Fprintln(reports, err)
		}
	}()
}
