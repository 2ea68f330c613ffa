//go:build linux && cgo

package main

import "slices"

// fill computes the figures of a duel.
func (d *duel) fill(pairs []pair) {
	list := func(f func(pair) float64) (x []float64) {
		for _, p := range pairs {
			x = append(x, f(p))
		}
		return x
	}
	d.Ratio = spreadOf(list(func(p pair) float64 { return p.challenger.rate() / p.reference.rate() }))
	d.P99Ratio = spreadOf(list(func(p pair) float64 { return p.challenger.P99 / p.reference.P99 }))
	d.Reference, d.PerSecond = median(list(func(p pair) float64 { return p.reference.rate() })), median(list(func(p pair) float64 { return p.challenger.rate() }))
	d.RefP50, d.P50 = median(list(func(p pair) float64 { return p.reference.P50 })), median(list(func(p pair) float64 { return p.challenger.P50 }))
	d.RefP99, d.P99 = median(list(func(p pair) float64 { return p.reference.P99 })), median(list(func(p pair) float64 { return p.challenger.P99 }))
	d.sum(pairs)
	for _, p := range pairs {
		d.Failures += p.challenger.Errors
		d.RefFailures += p.reference.Errors
		if p.challenger.Error != "" {
			d.Failure = p.challenger.Error
		}
	}
}

// sum computes what is of all pairs together: the kernel's clock is too coarse for
// one, and a client of many has a call or two in each.
func (d *duel) sum(pairs []pair) {
	var refOps, ops, mallocs float64
	var each []int
	for _, p := range pairs {
		refOps, ops = refOps+float64(p.reference.Ops), ops+float64(p.challenger.Ops)
		d.RefCPU.add(p.reference.User, p.reference.System)
		d.ClientCPU.add(p.challenger.User, p.challenger.System)
		d.DaemonCPU.add(p.daemon.User, p.daemon.System)
		mallocs += p.mallocs
		d.DaemonRSS = p.rss
		if each == nil {
			each = make([]int, len(p.challenger.Each))
		}
		for i, n := range p.challenger.Each {
			each[i] += n
		}
	}
	if ops == 0 || refOps == 0 {
		return
	}
	d.RefCPU.divide(refOps)
	d.ClientCPU.divide(ops)
	d.DaemonCPU.divide(ops)
	d.Mallocs = mallocs / ops
	d.LeastShare = float64(slices.Min(each)) * float64(len(each)) / ops
}

func (c *cpu) add(user, system float64) { c.User, c.System = c.User+user, c.System+system }

func (c *cpu) divide(n float64) { c.User, c.System = c.User/n, c.System/n }
