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
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "worker" {
		return runWorker(ctx, args[1:])
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := options{}
	flags.IntVar(&o.pairs, "pairs", 9, "pairs of slices for each ratio, 8 or more for a figure to be quoted")
	flags.DurationVar(&o.slice, "slice", 150*time.Millisecond, "length of a slice")
	only := flags.String("run", ".", "regular expression: the cases to measure, as in \"ES256 signetd jwt\"")
	flags.IntVar(&o.clients, "clients", 0, "measure with so many clients alone")
	flags.StringVar(&o.out, "out", "", "folder for performance.json, performance.md, throughput.svg and p99.svg")
	flags.BoolVar(&o.check, "check", false, "fail where a ratio is below its floor by more than the noise of the run")
	if err := flags.Parse(args); err != nil {
		return err
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
	check   bool
}

func bench(ctx context.Context, o options) (err error) {
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := w.close(); err == nil {
			err = cerr
		}
	}()
	r := report{Date: time.Now().UTC().Format(time.DateOnly), Machine: machine(), Pairs: o.pairs, SliceMillis: int(o.slice.Milliseconds())}
	var failed []error
	for _, c := range cases() {
		for _, n := range c.clients {
			if !o.only.MatchString(c.String()) || (o.clients != 0 && n != o.clients) || ctx.Err() != nil {
				continue
			}
			d, err := w.duel(c, n, o)
			if err != nil { // the others can still be measured
				failed = append(failed, fmt.Errorf("%s, %d clients: %w", c, n, err))
				continue
			}
			fmt.Println(d)
			r.Duels = append(r.Duels, d)
		}
	}
	r.LoadAfter = load()
	if o.out != "" {
		if err := r.write(o.out); err != nil {
			return err
		}
	}
	if o.check {
		failed = append(failed, r.check())
	}
	return errors.Join(append(failed, ctx.Err())...)
}

// runWorker is the main of the processes that the cases are.
func runWorker(ctx context.Context, args []string) (err error) {
	var t target
	switch kind, args := args[0], args[1:]; kind {
	case "token":
		t, err = newTokenTarget(args[0], args[1], args[2], args[3], args[4])
	case "crypto11":
		t, err = newCrypto11Target(args[0], args[1], args[2], args[3], args[4])
	case "signetd":
		t, err = newDaemonTarget(ctx, args[0], args[1], args[2], args[3])
	case "layer":
		t, err = newLayerTarget(ctx, args[0], args[1], args[2], args[3], args[4], args[5])
	case "process":
		t, err = newProcessTarget(ctx, args[0], args[1], args[2], args[3], args[4])
	default:
		err = fmt.Errorf("no worker %q", kind)
	}
	if err := greet(os.Stdout, err); err != nil {
		return err
	}
	return work(t, os.Stdin, os.Stdout)
}
