//go:build linux && cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

func bench(ctx context.Context, o options) (err error) {
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if o.profile != "" {
		return w.profile(o.profile)
	}
	r := report{Date: time.Now().UTC().Format(time.DateOnly), Machine: machine(), LoadBefore: load(), Pairs: o.pairs, SliceMillis: int(o.slice.Milliseconds())}
	failed := []error{w.duels(&r, o)}
	if !o.check {
		failed = append(failed, w.rest(&r, o))
	}
	r.LoadAfter = load()
	failed = append(failed, r.publish(o))
	if o.check && ctx.Err() == nil {
		failed = append(failed, r.check(os.Stdout, o))
	}
	return errors.Join(append(failed, ctx.Err())...)
}

// duels measures the cases that o wants. One that fails is in the report, too, and
// the others are still measured.
func (w *world) duels(r *report, o options) error {
	var failed []error
	for _, c := range cases() {
		for _, n := range c.clients {
			if !o.wants(c, n) || w.ctx.Err() != nil {
				continue
			}
			d, err := w.retried(c, n, o)
			if err != nil {
				d.Broken = err.Error()
				failed = append(failed, fmt.Errorf("%s, %d clients: %w", c, n, err))
			}
			fmt.Println(d)
			r.Duels = append(r.Duels, d)
		}
	}
	return errors.Join(failed...)
}

// retried measures a case. In a check one whose ratio says nothing is measured a second
// time, with twice the pairs.
func (w *world) retried(c benchCase, clients int, o options) (duel, error) {
	d, err := w.duel(c, clients, o)
	if err != nil || !o.check || !d.Ratio.noisy() {
		return d, err
	}
	o.pairs *= 2
	fmt.Printf("%s: NOISY, measured again with %d pairs\n", d, o.pairs)
	return w.duel(c, clients, o)
}

// rest measures what is no duel. Each has a name for -run.
func (w *world) rest(r *report, o options) error {
	var failed []error
	for _, m := range []struct {
		name    string
		measure func(*report) error
	}{
		{"disk alone", w.diskAlone},
		{"start-up", w.startUps},
		{"memory", w.memory},
	} {
		if !o.only.MatchString(m.name) || w.ctx.Err() != nil {
			continue
		}
		if err := m.measure(r); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
		}
	}
	if o.soak > 0 && w.ctx.Err() == nil {
		failed = append(failed, w.soak(r, o.soak))
	}
	return errors.Join(failed...)
}

// publish prints how the figures stand against their lines, and writes the files that
// o asks for.
func (r report) publish(o options) error {
	if !o.check {
		lines := slices.DeleteFunc(r.lines(), func(l line) bool { return l.verdict == notMeasured })
		fmt.Printf("\n%s", against(lines))
	}
	return r.save(o)
}

// save writes the files that o asks for.
func (r report) save(o options) error {
	var failed []error
	if o.out != "" {
		failed = append(failed, r.write(o.out))
	}
	if o.doc != "" {
		failed = append(failed, r.rewrite(o.doc))
	}
	return errors.Join(failed...)
}
