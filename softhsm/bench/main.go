//go:build linux && cgo

// Command bench measures what signetd adds to the token that it uses, beside other ways
// to a token and beside the limit: the least that any process between issuer and token
// would add.
//
// All figures are ratios of one run. The token in process, the limit and a case take
// turns in slices of time with the same number of clients. The machine's speed may drift
// from one second to the next; a ratio of neighbouring slices hardly does. Each case is a
// process of its own, and all use the same token and the same keys.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"signetd/softhsm/bench/layers"
	"signetd/softhsm/bench/load"
	"signetd/softhsm/bench/report"
)

// exitNoisy is the exit status of a check that found nothing wrong but the machine.
const exitNoisy = 3

func main() {
	// Also a pipe whose reader has gone must not leave daemons behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		if errors.Is(err, report.ErrNoisy) {
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
	flags.IntVar(&o.pairs, "pairs", 9, "slices of each contestant; 8 or more for a figure to be quoted")
	flags.DurationVar(&o.slice, "slice", 150*time.Millisecond, "length of a slice")
	only := flags.String("run", ".", "regular expression: the cases to measure, as in \"ES256 signetd jwt\"")
	flags.BoolVar(&o.shown, "shown", false, "measure only the cases that the report shows, a third of all")
	flags.IntVar(&o.clients, "clients", 0, "measure with so many clients only")
	flags.StringVar(&o.out, "out", "", "folder for the report as JSON, Markdown and CSV, and two plots")
	flags.StringVar(&o.doc, "doc", "", "Markdown file whose measured part, from its first heading on, is written anew; rows and plots go beside it")
	from := flags.String("from", "", "measure nothing, and write the report of the run whose performance.json this is")
	flags.BoolVar(&o.check, "check", false, "measure only what has a floor, and fail if a floor is missed by more than the noise of the run")
	flags.IntVar(&o.soak, "soak", 0, "send so many requests at the end, and compare the daemon's memory with that after a tenth of them")
	flags.StringVar(&o.profile, "profile", "", "folder for profiles of the daemon with 64 clients; nothing else is measured")
	if err := flags.Parse(args); err != nil {
		return err
	}

	if *from != "" {
		r, err := report.Read(*from)
		if err != nil {
			return err
		}
		fmt.Print(string(r.Against()))
		return save(r, o)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	return bench(ctx, o)
}

// runWorker is the main of the processes that the bench starts.
func runWorker(ctx context.Context, text string) error {
	var j load.Job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}

	open := load.New
	switch j.Kind {
	case "profiled":
		return layers.Serve(ctx, j, os.Stdin, os.Stdout)
	case "fill":
		return load.Greet(os.Stdout, load.Fill(j))
	case "layer":
		open = layers.New
	}
	t, err := open(ctx, j)
	if err := load.Greet(os.Stdout, err); err != nil {
		return err
	}
	return load.Serve(t, os.Stdin, os.Stdout)
}

type options struct {
	pairs   int
	slice   time.Duration
	only    *regexp.Regexp
	shown   bool
	clients int
	out     string
	doc     string
	check   bool
	soak    int
	profile string
}

// wants reports whether a case is to be measured with so many clients.
func (o options) wants(alg, name string, clients int) bool {
	if o.clients != 0 && clients != o.clients || o.shown && !report.Shown(alg, name) {
		return false
	}
	if _, ok := report.FloorOf(alg, name, clients); o.check && !ok {
		return false
	}
	return o.only.MatchString(alg + " " + name)
}

// bench measures what o wants. A case that fails is in the report, too, and the others
// are still measured.
func bench(ctx context.Context, o options) (err error) {
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if o.profile != "" {
		return w.profile(o.profile)
	}

	r := report.Report{Date: time.Now().UTC().Format(time.DateOnly), Machine: report.Machine(), LoadBefore: report.LoadAverage(), Pairs: o.pairs, SliceMillis: int(o.slice.Milliseconds())}
	failed := []error{w.duels(&r, o)}
	if !o.check {
		failed = append(failed, w.alone(&r, o))
	}
	r.LoadAfter = report.LoadAverage()

	if !o.check {
		fmt.Printf("\n%s", r.Against())
	}
	failed = append(failed, save(r, o))
	if o.check && ctx.Err() == nil {
		failed = append(failed, r.Check(os.Stdout, func(f report.Floor) bool { return o.wants(f.Alg, f.Case, f.Clients) }))
	}
	return errors.Join(append(failed, ctx.Err())...)
}

// save writes the files that o asks for.
func save(r report.Report, o options) error {
	var failed []error
	if o.out != "" {
		failed = append(failed, r.Write(o.out))
	}
	if o.doc != "" {
		failed = append(failed, r.Rewrite(o.doc))
	}
	return errors.Join(failed...)
}
