//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A duel is what came of one case and its reference.
type duel struct {
	Alg     string `json:"alg"`
	Case    string `json:"case"`
	Clients int    `json:"clients"`
	// Ratio is the case's throughput by the reference's: the median of the pairs, and
	// the quartiles round it.
	Ratio spread `json:"ratio"`
	// What follows are medians.
	Reference  float64 `json:"reference_per_second"`
	PerSecond  float64 `json:"per_second"`
	RefP50     float64 `json:"reference_p50_us"` // of a call
	P50        float64 `json:"p50_us"`
	RefP99     float64 `json:"reference_p99_us"`
	P99        float64 `json:"p99_us"`
	RefCPU     float64 `json:"reference_cpu_us"`        // an operation
	ClientCPU  float64 `json:"client_cpu_us"`           // an operation
	DaemonCPU  float64 `json:"daemon_cpu_us,omitempty"` // an operation, the token's work in it
	DaemonRSS  float64 `json:"daemon_rss_mib,omitempty"`
	LeastShare float64 `json:"least_share"` // what the slowest client had, of the mean
	Failures   int     `json:"failures,omitempty"`
	Failure    string  `json:"failure,omitempty"` // the last
}

// A spread is a median and the quartiles round it.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func spreadOf(x []float64) spread {
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	if n == 0 {
		return spread{}
	}
	return spread{Median: median(x), Low: x[n/4], High: x[n-1-n/4]}
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	if len(x) == 0 {
		return 0
	}
	return x[len(x)/2]
}

func (d duel) String() string {
	s := fmt.Sprintf("%-12s %-48s %4d clients: ratio %.2f (%.2f to %.2f), p50 %.0f µs beside %.0f, p99 %.1f ms beside %.1f", d.Alg, d.Case, d.Clients,
		d.Ratio.Median, d.Ratio.Low, d.Ratio.High, d.P50, d.RefP50, d.P99/1e3, d.RefP99/1e3)
	if d.DaemonCPU > 0 {
		s += fmt.Sprintf(", CPU µs: token %.0f, daemon and token %.0f, client %.0f; %.0f MiB", d.RefCPU, d.DaemonCPU, d.ClientCPU, d.DaemonRSS)
	}
	if d.Failures > 0 {
		s += fmt.Sprintf(", %d FAILED: %s", d.Failures, d.Failure)
	}
	return s
}

// duel measures a case with so many clients.
func (w *world) duel(c benchCase, clients int, o options) (d duel, err error) {
	reference, err := startToken(w, c.key, c.alg)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, reference.stop()) }()
	challenger, err := c.start(w, c.key, c.alg)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, challenger.stop()) }()
	d = duel{Alg: c.alg, Case: c.name, Clients: clients}
	var pairs []pair
	for i := -1; i < o.pairs; i++ { // the first warms up
		p, err := w.pair(reference, challenger, c, clients, o.slice)
		if err != nil {
			return d, err
		}
		if i >= 0 {
			pairs = append(pairs, p)
		}
	}
	d.fill(pairs, clients)
	return d, nil
}

// A pair is a slice of the reference and one of the case.
type pair struct {
	reference, challenger sample
	daemonCPU, daemonRSS  float64
}

func (w *world) pair(reference, challenger *worker, c benchCase, clients int, d time.Duration) (p pair, err error) {
	if p.reference, err = reference.slice(clients, d); err != nil {
		return p, err
	}
	var served running
	if c.daemon != nil {
		served = w.daemons[*c.daemon]
	}
	before, _ := served.usage()
	if p.challenger, err = challenger.slice(clients, d); err != nil {
		return p, err
	}
	after, rss := served.usage()
	p.daemonCPU, p.daemonRSS = after-before, rss
	return p, nil
}

func (d *duel) fill(pairs []pair, clients int) {
	of := func(f func(pair) float64) float64 {
		var x []float64
		for _, p := range pairs {
			x = append(x, f(p))
		}
		return median(x)
	}
	var ratios []float64
	for _, p := range pairs {
		ratios = append(ratios, p.challenger.rate()/p.reference.rate())
		d.Failures += p.reference.Errors + p.challenger.Errors
		if p.challenger.Error != "" {
			d.Failure = p.challenger.Error
		}
	}
	d.Ratio = spreadOf(ratios)
	d.Reference, d.PerSecond = of(func(p pair) float64 { return p.reference.rate() }), of(func(p pair) float64 { return p.challenger.rate() })
	d.RefP50, d.P50 = of(func(p pair) float64 { return p.reference.P50 }), of(func(p pair) float64 { return p.challenger.P50 })
	d.RefP99, d.P99 = of(func(p pair) float64 { return p.reference.P99 }), of(func(p pair) float64 { return p.challenger.P99 })
	d.RefCPU = of(func(p pair) float64 { return p.reference.CPU / float64(max(1, p.reference.Ops)) })
	d.ClientCPU = of(func(p pair) float64 { return p.challenger.CPU / float64(max(1, p.challenger.Ops)) })
	d.DaemonCPU = of(func(p pair) float64 { return p.daemonCPU / float64(max(1, p.challenger.Ops)) })
	d.DaemonRSS = of(func(p pair) float64 { return p.daemonRSS })
	d.LeastShare = of(func(p pair) float64 {
		return float64(p.challenger.Least) * float64(clients) / float64(max(1, p.challenger.Ops))
	})
}
