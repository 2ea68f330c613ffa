//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"time"
)

// A duel is what came of one case and its reference.
type duel struct {
	Alg     string `json:"alg"`
	Case    string `json:"case"`
	Clients int    `json:"clients"`
	// Against is what the reference is, if not the token in process.
	Against string `json:"against,omitempty"`
	// Ratio is the case's throughput by the reference's, and P99Ratio the same of the
	// time that all but the slowest of a hundred calls took: the medians of the pairs,
	// and the quartiles round them.
	Ratio    spread `json:"ratio"`
	P99Ratio spread `json:"p99_ratio"`
	// What follows are medians.
	Reference float64 `json:"reference_per_second"`
	PerSecond float64 `json:"per_second"`
	RefP50    float64 `json:"reference_p50_us"` // of a call
	P50       float64 `json:"p50_us"`
	RefP99    float64 `json:"reference_p99_us"`
	P99       float64 `json:"p99_us"`
	// What follows is of an operation, and of all pairs together. Daemon's is with the
	// token's work in it.
	RefCPU    cpu     `json:"reference_cpu_us"`
	ClientCPU cpu     `json:"client_cpu_us"`
	DaemonCPU cpu     `json:"daemon_cpu_us,omitzero"`
	Mallocs   float64 `json:"daemon_allocations,omitempty"`
	DaemonRSS float64 `json:"daemon_rss_mib,omitempty"` // at the end
	// LeastShare is what the slowest client had of the mean, in all pairs together.
	LeastShare float64 `json:"least_share"`
	Failures   int     `json:"failures,omitempty"`
	Failure    string  `json:"failure,omitempty"` // the last
	// RefFailures are those of the reference. One process after the other has some: a
	// login of one is in the way of the next.
	RefFailures int `json:"reference_failures,omitempty"`
	// Broken is why there are no figures.
	Broken string `json:"broken,omitempty"`
}

// A cpu is time on a processor in µs.
type cpu struct {
	User   float64 `json:"user"`
	System float64 `json:"system"`
}

func (c cpu) total() float64 { return c.User + c.System }

func (c cpu) String() string { return fmt.Sprintf("%.0f+%.0f", c.User, c.System) }

func (d duel) String() string {
	s := fmt.Sprintf("%-12s %-48s %4d clients: ", d.Alg, d.Case, d.Clients)
	if d.Broken != "" {
		return s + "BROKEN: " + d.Broken
	}
	s += fmt.Sprintf("ratio %s, p50 %.0f µs beside %.0f, p99 %.1f ms beside %.1f", d.Ratio, d.P50, d.RefP50, d.P99/1e3, d.RefP99/1e3)
	if d.DaemonCPU.total() > 0 {
		s += fmt.Sprintf(", CPU µs user+kernel: reference %s, daemon %s, client %s; %.0f allocations; %.0f MiB", d.RefCPU, d.DaemonCPU, d.ClientCPU, d.Mallocs, d.DaemonRSS)
	}
	if d.Failures > 0 {
		s += fmt.Sprintf(", %d FAILED: %s", d.Failures, d.Failure)
	}
	return s
}

// duel measures a case with so many clients. What it returns names the case even if
// there is an error.
func (w *world) duel(c benchCase, clients int, o options) (d duel, err error) {
	d = duel{Alg: c.alg, Case: c.name, Clients: clients, Against: c.against}
	if c.reference == nil {
		c.reference = startToken
	}
	if c.referenceClients == 0 {
		c.referenceClients = clients
	}
	reference, err := c.reference(w, c.key, c.alg)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, reference.stop()) }()
	challenger, err := c.start(w, c.key, c.alg)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, challenger.stop()) }()
	var pairs []pair
	for i := -1; i < o.pairs; i++ { // the first warms up
		p, err := w.pair(reference, challenger, c, clients, o.slice)
		if err != nil {
			return d, err
		}
		if err := p.idle(); err != nil {
			return d, err
		}
		if i >= 0 {
			pairs = append(pairs, p)
		}
	}
	d.fill(pairs)
	return d, nil
}

// A pair is a slice of the reference and one of the case.
type pair struct {
	reference, challenger sample
	daemon                cpu
	mallocs, rss          float64 // of the daemon
}

// idle returns an error if nothing succeeded on one of the sides: there is no ratio.
func (p pair) idle() error {
	for _, s := range []sample{p.reference, p.challenger} {
		if s.Ops == 0 {
			return fmt.Errorf("nothing succeeded, %d calls failed: %s", s.Errors, s.Error)
		}
	}
	return nil
}

func (w *world) pair(reference, challenger *worker, c benchCase, clients int, d time.Duration) (p pair, err error) {
	if err := w.ctx.Err(); err != nil {
		return p, err
	}
	if p.reference, err = reference.slice(c.referenceClients, d); err != nil {
		return p, err
	}
	served := w.daemons[c.daemon]
	if served == nil {
		p.challenger, err = challenger.slice(clients, d)
		return p, err
	}
	// Asked twice, so that what the question itself takes can be subtracted.
	first, err := served.mallocs(w.ctx)
	if err != nil {
		return p, err
	}
	second, err := served.mallocs(w.ctx)
	if err != nil {
		return p, err
	}
	before, err := served.usage()
	if err != nil {
		return p, err
	}
	if p.challenger, err = challenger.slice(clients, d); err != nil {
		return p, err
	}
	after, err := served.usage()
	if err != nil {
		return p, err
	}
	third, err := served.mallocs(w.ctx)
	p.daemon, p.rss = cpu{after.user - before.user, after.system - before.system}, after.rss
	p.mallocs = (third - second) - (second - first)
	return p, err
}
