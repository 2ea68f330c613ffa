//go:build linux && cgo

package main

import (
	"math"
	"strings"
	"testing"

	"signetd/softhsm/bench/load"
	"signetd/softhsm/bench/report"
)

func TestFill(t *testing.T) {
	reference := load.Sample{Ops: 100, Seconds: 0.1, P50: 40, P99: 1000, User: 4000, System: 1000}
	one := load.Sample{Ops: 30, Seconds: 0.1, P50: 100, P99: 300, Each: []int{10, 20}, User: 300, System: 600, Errors: 2, Error: "overloaded"}
	two := load.Sample{Ops: 60, Seconds: 0.1, P50: 120, P99: 600, Each: []int{35, 25}, User: 600, System: 1200}
	limit := load.Sample{Ops: 80, Seconds: 0.1}
	var d report.Duel
	fill(&d, []round{
		{reference, limit, one, report.CPU{User: 3000, System: 900}, 900, 20}, {reference, limit, two, report.CPU{User: 6000, System: 1800}, 1800, 21},
		{reference, limit, two, report.CPU{User: 6000, System: 1800}, 1800, 22},
	})
	if d.Ratio != (report.Spread{Median: 0.6, Low: 0.3, High: 0.6}) || d.P99Ratio != (report.Spread{Median: 0.6, Low: 0.3, High: 0.6}) {
		t.Errorf("ratios %+v and %+v", d.Ratio, d.P99Ratio)
	}
	if d.OfLimit != (report.Spread{Median: 0.75, Low: 0.375, High: 0.75}) {
		t.Errorf("of the limit %+v", d.OfLimit)
	}
	for name, got := range map[string][2]float64{
		"the reference's rate": {d.Reference, 1000}, "the rate": {d.PerSecond, 600}, "p50": {d.P50, 120}, "p99": {d.P99, 600},
		"the reference's user time": {d.RefCPU.User, 40}, "and its system time": {d.RefCPU.System, 10},
		"the client's user time": {d.ClientCPU.User, 10}, "and its system time ": {d.ClientCPU.System, 20},
		"the daemon's user time": {d.DaemonCPU.User, 100}, "and its system time  ": {d.DaemonCPU.System, 30},
		"allocations": {d.Mallocs, 30}, "memory": {d.DaemonRSS, 22},
		"the slowest client's share": {d.LeastShare, 70.0 / 75}, "failures": {float64(d.Failures), 2},
	} {
		if math.Abs(got[0]-got[1]) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got[0], got[1])
		}
	}
	if !strings.Contains(d.String(), "2 FAILED: overloaded") {
		t.Errorf("the line does not report the failures: %s", d)
	}
}

func TestIdle(t *testing.T) {
	busy, idle := load.Sample{Ops: 1}, load.Sample{Errors: 3, Error: "no key"}
	if err := (round{reference: busy, challenger: busy}).idle(); err != nil {
		t.Error(err)
	}
	for _, p := range []round{{reference: busy, challenger: idle}, {reference: idle, challenger: busy}} {
		if err := p.idle(); err == nil || !strings.Contains(err.Error(), "no key") {
			t.Errorf("a round without a success on one side: %v", err)
		}
	}
}

func TestParseStat(t *testing.T) {
	const stat = "7 (a) b) S 1 7 7 0 -1 4194560 5093 0 0 0 250 75 1 2 20 0 9 0 4242 1300000000 2560 18446744073709551615 1 1 0"
	u, err := parseStat([]byte(stat))
	if err != nil || u.user != 2.5e6 || u.system != 0.75e6 || u.rss <= 0 {
		t.Errorf("parseStat = %+v, %v", u, err)
	}
	if _, err := parseStat([]byte("7 (a) S 1 7")); err == nil {
		t.Error("a stat that was cut short was read")
	}
}

func TestParseMallocs(t *testing.T) {
	const metrics = "# TYPE go_memstats_mallocs_total counter\ngo_memstats_mallocs_total 1.25e+06\ngo_memstats_other 3\n"
	if n, err := parseMallocs(metrics); err != nil || n != 1.25e6 {
		t.Errorf("parseMallocs = %v, %v", n, err)
	}
	if _, err := parseMallocs("go_memstats_other 3\n"); err == nil {
		t.Error("metrics without the number were read")
	}
}
