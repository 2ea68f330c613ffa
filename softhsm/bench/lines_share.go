//go:build linux && cgo

package main

import "fmt"

// shareLimits are what signetd is to keep of the in-process throughput with 64 clients.
var shareLimits = []struct {
	alg, name string
	least     float64
}{
	{oaep, nameDecrypt, 0.95},
	{"RS256", nameUnverified, 0.95},
	{"RS256", nameVerified, 0.88},
	{"ES256", nameUnverified, 0.75},
	{"ES256", nameVerified, 0.37},
	{"ES256", nameUnverified + ", batches of 64", 0.90},
	{"ES256", nameVerified + ", batches of 64", 0.42},
}

func (r report) shares() (list []line) {
	for _, s := range shareLimits {
		l := line{what: fmt.Sprintf("%s %s, 64 clients: throughput, of that in process", s.alg, s.name), limit: fmt.Sprintf("at least %.2f", s.least)}
		d := r.find(s.alg, s.name, 64)
		if !d.usable() {
			list = append(list, l.missing())
			continue
		}
		list = append(list, l.judge(d.Ratio, d.Ratio.Median >= s.least))
	}
	return list
}

// besideP11Kit sets signetd beside p11-kit's server: throughputs by their shares of the
// in-process one, and what a client alone waits more than in process.
func (r report) besideP11Kit() (list []line) {
	for _, b := range []struct {
		name    string
		clients int
		least   float64
	}{{nameUnverified, 8, 1.2}, {nameUnverified, 64, 3}, {nameVerified, 64, 1}} {
		l := line{what: fmt.Sprintf("ES256 %s, %d clients: throughput, of p11-kit server's", b.name, b.clients), limit: fmt.Sprintf("at least %.1f", b.least)}
		own, other := r.find("ES256", b.name, b.clients), r.find("ES256", nameP11Kit, b.clients)
		if !own.usable() || !other.usable() {
			list = append(list, l.missing())
			continue
		}
		of := own.Ratio.Median / other.Ratio.Median
		l.measured, l.verdict = fmt.Sprintf("%.2f (%.2f / %.2f)", of, own.Ratio.Median, other.Ratio.Median), yes(of >= b.least)
		list = append(list, l)
	}
	for _, name := range []string{nameUnverified, nameUnverified + ", fsync off"} {
		l := line{what: "ES256 " + name + ", 1 client: p50 more than in process, µs, beside p11-kit server's", limit: "no more"}
		own, other := r.find("ES256", name, 1), r.find("ES256", nameP11Kit, 1)
		if !own.usable() || !other.usable() {
			list = append(list, l.missing())
			continue
		}
		mine, theirs := own.P50-own.RefP50, other.P50-other.RefP50
		l.measured, l.verdict = fmt.Sprintf("%.0f / %.0f", mine, theirs), yes(mine <= theirs)
		list = append(list, l)
	}
	return list
}
