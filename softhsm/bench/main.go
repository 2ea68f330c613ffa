//go:build linux && cgo

// Command bench measures what signetd adds to the token that it uses, beside other
// ways to reach one.
//
// All figures are ratios of one run: slices of time in which the token is used in
// process, by a session for each client, and slices in which a case does the same
// work, in turn. The machine's speed may drift from one second to the next; what
// one case has of the reference, pair by pair, hardly does. Each case is a process
// of its own, all use the same token and the same keys.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// exitNoisy is the exit status of a check that found nothing wrong but the machine, so
// that who runs it can tell that from a fault.
const exitNoisy = 3

func main() {
	// However it ends, also by a pipe whose reader has gone, the daemons end with it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		if errors.Is(err, errNoisy) {
			os.Exit(exitNoisy)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == "worker" {
		return runWorker(ctx, args[1])
	}
	o := options{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.pairs, "pairs", 9, "pairs of slices for each ratio, 8 or more for a figure to be quoted")
	flags.DurationVar(&o.slice, "slice", 150*time.Millisecond, "length of a slice")
	only := flags.String("run", ".", "regular expression: the cases to measure, as in \"ES256 signetd jwt\"")
	flags.IntVar(&o.clients, "clients", 0, "measure with so many clients alone")
	flags.StringVar(&o.out, "out", "", "folder for the figures as JSON, the report as Markdown, and two plots")
	flags.StringVar(&o.doc, "doc", "", "Markdown file whose measured part, from its first heading on, is written anew, with the plots beside it")
	from := flags.String("from", "", "measure nothing, and write the report of the run whose performance.json this is")
	flags.BoolVar(&o.check, "check", false, "measure what has a floor alone, and fail where it is missed by more than the noise of the run")
	flags.IntVar(&o.soak, "soak", 0, "send so many requests at the end, and compare the daemon's memory with that after a tenth of them")
	flags.StringVar(&o.profile, "profile", "", "folder for profiles of the daemon under 64 clients; nothing else is measured")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *from != "" {
		return rewriteFrom(*from, o)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	return bench(ctx, o)
}

type options struct {
	pairs   int
	slice   time.Duration
	only    *regexp.Regexp
	clients int
	out     string
	doc     string
	check   bool
	soak    int
	profile string
}

// wants reports whether a case is to be measured with so many clients.
func (o options) wants(c benchCase, clients int) bool {
	if o.clients != 0 && clients != o.clients {
		return false
	}
	if _, ok := floorOf(c.alg, c.name, clients); o.check && !ok {
		return false
	}
	return o.only.MatchString(c.String())
}
