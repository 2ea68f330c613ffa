//go:build linux && cgo

package main

import (
	"fmt"
	"strings"
)

// overClients are the lines on one daemon under few and many clients.
func (r report) overClients() []line {
	never := line{what: "ES256, 1 to 1,000 clients: throughput at any number of clients, of its best with fewer", limit: "at least 0.9"}
	least := line{what: "the same: throughput with 1 client, of its best with any", verdict: reported}
	slowest := line{what: "the same: the slowest client's share, of the mean", limit: "at least 0.5"}
	worst, best, first, share := 1.0, 0.0, 0.0, 1.0
	worstAt, shareAt := 1, 1
	for _, n := range many {
		d := r.find("ES256", nameToItself, n)
		if !d.usable() {
			return []line{never.missing(), least.missing(), slowest.missing()}
		}
		if d.Ratio.noisy() {
			never.verdict = tooNoisy
		}
		if n == 1 {
			first = d.Ratio.Median
		}
		best = max(best, d.Ratio.Median)
		if of := d.Ratio.Median / best; of < worst {
			worst, worstAt = of, n
		}
		if d.LeastShare < share {
			share, shareAt = d.LeastShare, n
		}
	}
	never.measured, slowest.measured = fmt.Sprintf("%.2f, with %d", worst, worstAt), fmt.Sprintf("%.2f, with %d", share, shareAt)
	if never.verdict == "" {
		never.verdict = yes(worst >= 0.9)
	}
	slowest.verdict = yes(share >= 0.5)
	least.measured = fmt.Sprintf("%.2f", first/best)
	return []line{never, least, slowest}
}

// addedP50 is what a client alone waits more than in process.
func (r report) addedP50() (list []line) {
	floor := ""
	if r.Disk != nil {
		floor = fmt.Sprintf("; the disk alone takes %.0f", r.Disk.P50)
	}
	for _, name := range []string{nameUnverified, nameVerified, nameUnverified + ", fsync off", nameVerified + ", fsync off"} {
		most := 70.0
		if strings.HasPrefix(name, nameVerified) && !strings.HasPrefix(name, nameUnverified) {
			most = 200
		}
		l := line{what: "ES256 " + name + ", 1 client: p50 more than in process, µs", limit: fmt.Sprintf("at most %.0f", most)}
		d := r.find("ES256", name, 1)
		if !d.usable() {
			list = append(list, l.missing())
			continue
		}
		l.measured, l.verdict = fmt.Sprintf("%.0f", d.P50-d.RefP50), yes(d.P50-d.RefP50 <= most)
		if !strings.HasSuffix(name, "fsync off") {
			l.measured += floor
		}
		list = append(list, l)
	}
	return list
}

func (r report) p99(alg, name string) line {
	l := line{what: fmt.Sprintf("%s %s, 64 clients: p99, of that in process", alg, name), limit: "at most 0.5"}
	d := r.find(alg, name, 64)
	if !d.usable() {
		return l.missing()
	}
	return l.judge(d.P99Ratio, d.P99Ratio.Median <= 0.5)
}

func (r report) besideProcess() line {
	l := line{what: "ES256, 64 clients (verify off): throughput, of one process after the other", limit: "at least 100"}
	d := r.find("ES256", nameToProcess, 64)
	if !d.usable() {
		return l.missing()
	}
	l = l.judge(d.Ratio, d.Ratio.Median >= 100)
	l.measured = fmt.Sprintf("%.0f (%.0f to %.0f)", d.Ratio.Median, d.Ratio.Low, d.Ratio.High)
	return l
}

// broken counts what went wrong in signetd's rows. A row without figures counts as one.
func (r report) broken() line {
	l := line{what: "failures of signetd's requests, in all rows", limit: "none"}
	failures, rows := 0, 0
	for _, d := range r.Duels {
		if !strings.HasPrefix(d.Case, "signetd") {
			continue
		}
		rows++
		if d.Broken != "" {
			failures++
		}
		failures += d.Failures
	}
	if rows == 0 {
		return l.missing()
	}
	l.measured, l.verdict = fmt.Sprintf("%d in %d rows", failures, rows), yes(failures == 0)
	return l
}
