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
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{}
	return a.exit(a.root().ExecuteContextC(ctx))
}
