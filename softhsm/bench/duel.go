//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"signetd/softhsm/bench/load"
	"signetd/softhsm/bench/report"
)

// duels measures the cases that o wants.
func (w *world) duels(r *report.Report, o options) error {
	var failed []error
	for _, c := range cases() {
		for _, n := range c.clients {
			if !o.wants(c.alg, c.name, n) || w.ctx.Err() != nil {
				continue
			}

			d, err := w.duel(c, n, o)
			// A check that is too noisy to tell gets a second chance.
			if err == nil && o.check && d.Ratio.Noisy() {
				again := o
				again.pairs *= 2
				fmt.Printf("%s: NOISY, measured again with %d pairs\n", d, again.pairs)
				d, err = w.duel(c, n, again)
			}
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

// A round is a slice of each contestant.
type round struct {
	reference, limit, challenger load.Sample // no limit: no Ops
	daemon                       report.CPU
	mallocs, rss                 float64 // of the daemon
}

// duel measures a case with so many clients. The duel that it returns names the case even
// if there is an error.
func (w *world) duel(c benchCase, clients int, o options) (d report.Duel, err error) {
	d = report.Duel{Alg: c.alg, Case: c.name, Clients: clients, Against: c.against}
	if c.reference == nil {
		c.reference = startKind("token")
	}
	if c.referenceClients == 0 {
		c.referenceClients = clients
	}

	reference, err := c.reference(w, c.key, c.alg)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, reference.Stop()) }()

	// The limit is measured beside signetd alone, and not in a check, whose floors are
	// about the reference.
	var limit *load.Worker
	if c.daemon != daemonNone && c.against == "" && !o.check {
		if limit, err = startLimit(w, c.key, c.alg); err != nil {
			return d, err
		}
		defer func() { err = errors.Join(err, limit.Stop()) }()
	}

	challenger, err := c.start(w, c.key, c.alg)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, challenger.Stop()) }()

	var rounds []round
	for i := -1; i < o.pairs; i++ { // the first warms up
		if err := w.ctx.Err(); err != nil {
			return d, err
		}
		var r round
		if r.reference, err = reference.Slice(c.referenceClients, o.slice); err != nil {
			return d, err
		}
		if limit != nil {
			if r.limit, err = limit.Slice(clients, o.slice); err != nil {
				return d, err
			}
		}
		if err := w.challenge(&r, challenger, c.daemon, clients, o.slice); err != nil {
			return d, err
		}
		if err := r.idle(); err != nil {
			return d, err
		}
		if i >= 0 {
			rounds = append(rounds, r)
		}
	}
	fill(&d, rounds)
	return d, nil
}

// challenge measures a slice of the case, and what its daemon used for it.
func (w *world) challenge(r *round, challenger *load.Worker, kind daemonKind, clients int, slice time.Duration) (err error) {
	d := w.daemons[kind]
	if d == nil {
		r.challenger, err = challenger.Slice(clients, slice)
		return err
	}

	// To ask for the allocations allocates, too. What the second question adds to the
	// first is subtracted.
	first, err := d.mallocs(w.ctx)
	if err != nil {
		return err
	}
	second, err := d.mallocs(w.ctx)
	if err != nil {
		return err
	}
	before, err := d.usage()
	if err != nil {
		return err
	}

	if r.challenger, err = challenger.Slice(clients, slice); err != nil {
		return err
	}

	after, err := d.usage()
	if err != nil {
		return err
	}
	third, err := d.mallocs(w.ctx)
	r.daemon, r.rss = report.CPU{User: after.user - before.user, System: after.system - before.system}, after.rss
	r.mallocs = (third - second) - (second - first)
	return err
}

// idle returns an error if one side did nothing: there is no ratio then.
func (r round) idle() error {
	for _, s := range []load.Sample{r.reference, r.challenger} {
		if s.Ops == 0 {
			return fmt.Errorf("nothing succeeded, %d calls failed: %s", s.Errors, s.Error)
		}
	}
	return nil
}

// fill computes the figures of a duel.
func fill(d *report.Duel, rounds []round) {
	list := func(f func(round) float64) (x []float64) {
		for _, r := range rounds {
			x = append(x, f(r))
		}
		return x
	}
	median := func(f func(round) float64) float64 { return report.Median(list(f)) }

	d.Ratio = report.SpreadOf(list(func(r round) float64 { return r.challenger.Rate() / r.reference.Rate() }))
	d.P99Ratio = report.SpreadOf(list(func(r round) float64 { return r.challenger.P99 / r.reference.P99 }))
	if rounds[0].limit.Ops > 0 {
		d.OfLimit = report.SpreadOf(list(func(r round) float64 { return r.challenger.Rate() / r.limit.Rate() }))
	}
	d.Reference, d.PerSecond = median(func(r round) float64 { return r.reference.Rate() }), median(func(r round) float64 { return r.challenger.Rate() })
	d.RefP50, d.P50 = median(func(r round) float64 { return r.reference.P50 }), median(func(r round) float64 { return r.challenger.P50 })
	d.RefP99, d.P99 = median(func(r round) float64 { return r.reference.P99 }), median(func(r round) float64 { return r.challenger.P99 })

	// The rest is of all rounds together: a client of many makes a call or two in each.
	var refOps, ops, mallocs float64
	var each []int
	add := func(c *report.CPU, user, system float64) { c.User, c.System = c.User+user, c.System+system }
	for _, r := range rounds {
		refOps, ops = refOps+float64(r.reference.Ops), ops+float64(r.challenger.Ops)
		add(&d.RefCPU, r.reference.User, r.reference.System)
		add(&d.ClientCPU, r.challenger.User, r.challenger.System)
		add(&d.DaemonCPU, r.daemon.User, r.daemon.System)
		mallocs += r.mallocs
		d.DaemonRSS = r.rss
		d.Failures += r.challenger.Errors
		d.RefFailures += r.reference.Errors
		if r.challenger.Error != "" {
			d.Failure = r.challenger.Error
		}
		if each == nil {
			each = make([]int, len(r.challenger.Each))
		}
		for i, n := range r.challenger.Each {
			each[i] += n
		}
	}
	if ops == 0 || refOps == 0 {
		return
	}

	of := func(c report.CPU, n float64) report.CPU { return report.CPU{User: c.User / n, System: c.System / n} }
	d.RefCPU, d.ClientCPU, d.DaemonCPU = of(d.RefCPU, refOps), of(d.ClientCPU, ops), of(d.DaemonCPU, ops)
	d.Mallocs = mallocs / ops
	if len(each) > 0 { // the limit's client does not count them
		d.LeastShare = float64(slices.Min(each)) * float64(len(each)) / ops
	}
}
