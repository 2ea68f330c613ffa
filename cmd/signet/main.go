// Signet is the command line of signetd for issuers, recipients and operators.
//
// Results go to standard output and everything else to standard error, with the
// prefix "signet: ", lines in lower case and without a period. The exit status is
// 0 for success, 1 for a request that was refused or an object that is not valid,
// 2 for wrong usage, and 3 if no daemon can be reached.
//
// It links no cgo: built with CGO_ENABLED=0 it runs on any host of its kind.
package main

import (
	"context"
	"os"
)

// main leaves signals alone: there is nothing to clean up, and a person who
// presses ctrl-c while the program reads from the terminal wants it to end.
func main() {
	a := &app{}
	os.Exit(a.exit(a.root().ExecuteContextC(context.Background())))
}
