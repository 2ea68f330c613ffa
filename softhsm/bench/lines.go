//go:build linux && cgo

package main

import (
	"bytes"
	"fmt"
	"math"
)

// A line is something that signetd is to hold, and whether it does.
type line struct {
	what, limit, measured, verdict string
}

// Verdicts of a line that is neither held nor missed.
const (
	reported    = "-" // nothing is asked for: the figure alone
	notMeasured = "not measured"
	tooNoisy    = "too noisy"
)

// against is a table of lines, in Markdown.
func against(lines []line) []byte {
	var b bytes.Buffer
	b.WriteString(headAgainst + "\n| what | line | measured | held |\n|---|---|---|---|\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.what, l.limit, l.measured, l.verdict)
	}
	b.WriteString("\n")
	return b.Bytes()
}

func (r report) lines() []line {
	list := append(r.shares(),
		r.ownCPU(nameUnverified), r.ownCPU(nameVerified),
		r.atMost(nameUnverified, "allocations a request", 40, func(d *duel) float64 { return d.Mallocs }),
		r.atMost(nameVerified, "allocations a request", 40, func(d *duel) float64 { return d.Mallocs }),
		r.atMost(nameUnverified, "the Go client's CPU a request, µs", 15, func(d *duel) float64 { return d.ClientCPU.total() }),
	)
	list = append(list, r.memoryLines()...)
	list = append(list, r.startLines()...)
	list = append(list, r.largeLine())
	list = append(list, r.overClients()...)
	list = append(list, r.addedP50()...)
	for _, alg := range signAlgs {
		list = append(list, r.p99(alg, nameUnverified))
	}
	list = append(list, r.p99(oaep, nameDecrypt))
	list = append(list, r.besideP11Kit()...)
	return append(list, r.besideProcess(), r.broken())
}

// yes is the verdict of a figure that is held or not.
func yes(held bool) string {
	if held {
		return "yes"
	}
	return "no"
}

// ownCPU takes the daemon's time on a processor apart, for ES256 at 64 clients.
func (r report) ownCPU(name string) line {
	l := line{what: "ES256 " + name + ", 64 clients: the daemon's own CPU, user, beside token, verify and kernel, µs", limit: "at most 30"}
	d := r.find("ES256", name, 64)
	if !d.usable() {
		return l.missing()
	}
	verify := 0.0
	if name == nameVerified {
		on, off := r.find("ES256", nameBackend, 64), r.find("ES256", nameBackend+", verify off", 64)
		if !on.usable() || !off.usable() {
			return l.missing()
		}
		verify = on.ClientCPU.User - off.ClientCPU.User
	}
	own := d.DaemonCPU.User - d.RefCPU.User - verify
	l.measured = fmt.Sprintf("%.0f own + %.0f token + %.0f verify + %.0f kernel = %.0f", own, d.RefCPU.User, verify, d.DaemonCPU.System, d.DaemonCPU.total())
	l.verdict = yes(own <= 30)
	return l
}

// usable reports whether there are figures.
func (d *duel) usable() bool { return d != nil && d.Broken == "" }

func (l line) missing() line {
	l.measured, l.verdict = "", notMeasured
	return l
}

// atMost is a line on a figure of ES256 at 64 clients.
func (r report) atMost(name, what string, limit float64, figure func(*duel) float64) line {
	l := line{what: fmt.Sprintf("ES256 %s, 64 clients: %s", name, what), limit: fmt.Sprintf("at most %.0f", limit)}
	d := r.find("ES256", name, 64)
	if !d.usable() {
		return l.missing()
	}
	l.measured, l.verdict = fmt.Sprintf("%.1f", figure(d)), yes(figure(d) <= limit)
	return l
}

func (r report) memoryLines() []line {
	rest := line{what: "resident memory of a daemon with 10 keys at rest, MiB", limit: "at most 30"}
	under := line{what: "the same under 64 clients", limit: "at most 60"}
	after := line{what: "the same after ten times as many requests", limit: "the same within 5 %"}
	if m := r.Memory; m != nil {
		rest.measured, rest.verdict = fmt.Sprintf("%.1f", m.AtRest), yes(m.AtRest <= 30)
		under.measured, under.verdict = fmt.Sprintf("%.1f", m.Under), yes(m.Under <= 60)
	} else {
		rest, under = rest.missing(), under.missing()
	}
	if s := r.Soak; s != nil {
		after.measured = fmt.Sprintf("%.1f after %d, %.1f after %d, %d failures", s.FirstMiB, s.First, s.MiB, s.Requests, s.Failures)
		after.verdict = yes(s.MiB <= 1.05*s.FirstMiB && s.Failures == 0)
	} else {
		after = after.missing()
	}
	return []line{rest, under, after}
}

func (r report) startLines() (list []line) {
	for _, keys := range []int{len(tenKeys()), largeKeys} {
		l := line{what: fmt.Sprintf("start to ready with %d keys, ms", keys), verdict: notMeasured}
		if keys == len(tenKeys()) {
			l.limit = "at most 150"
		}
		for _, up := range r.StartUps {
			if up.Keys != keys {
				continue
			}
			l.what = fmt.Sprintf("start to ready with %d keys in a token of %d objects, ms", keys, up.Objects)
			l.measured, l.verdict = fmt.Sprintf("%.0f (%.0f to %.0f)", up.Millis.Median, up.Millis.Low, up.Millis.High), reported
			if l.limit != "" {
				l.verdict = yes(up.Millis.Median <= 150)
			}
		}
		list = append(list, l)
	}
	return list
}

func (r report) largeLine() line {
	l := line{what: "ES256, 64 clients: 200 keys and 1,000 objects beside 10 keys, throughput", limit: "the same within 5 %"}
	d := r.find("ES256", nameLarge, 64)
	if !d.usable() {
		return l.missing()
	}
	return l.judge(d.Ratio, math.Abs(d.Ratio.Median-1) <= 0.05 || d.Ratio.Median > 1)
}

// judge gives the verdict on a ratio, unless it says nothing.
func (l line) judge(s spread, held bool) line {
	l.measured, l.verdict = fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Low, s.High), yes(held)
	if s.noisy() {
		l.verdict = tooNoisy
	}
	return l
}
