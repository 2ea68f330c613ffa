package report

import (
	"bytes"
	"fmt"
	"math"
	"strings"
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

// yes is the verdict of a figure that is held or not.
func yes(held bool) string {
	if held {
		return "yes"
	}
	return "no"
}

func (l line) missing() line {
	l.measured, l.verdict = "", notMeasured
	return l
}

// judge gives the verdict on a ratio, unless the ratio is too noisy.
func (l line) judge(s Spread, held bool) line {
	l.measured, l.verdict = fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Low, s.High), yes(held)
	if s.Noisy() {
		l.verdict = tooNoisy
	}
	return l
}

// Against is the table of the lines that were measured, in Markdown.
func (r Report) Against() []byte {
	var b bytes.Buffer
	b.WriteString(headAgainst + "\n| what | line | measured | held |\n|---|---|---|---|\n")
	for _, l := range r.lines() {
		if l.verdict != notMeasured {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.what, l.limit, l.measured, l.verdict)
		}
	}
	b.WriteString("\n")
	return b.Bytes()
}

func (r Report) lines() []line {
	list := r.shareLines()
	list = append(list, r.costLines()...)
	list = append(list, r.memoryLines()...)
	list = append(list, r.startLines()...)
	list = append(list, r.clientLines()...)
	list = append(list, r.addedP50Lines()...)
	for _, alg := range SignAlgs {
		list = append(list, r.p99Line(alg, Unverified))
	}
	list = append(list, r.p99Line(OAEP, Decrypt))
	list = append(list, r.p11KitLines()...)
	return append(list, r.toolLine(), r.failureLine())
}

// shareLines are about the part of the in-process throughput that signetd keeps with 64
// clients.
func (r Report) shareLines() (list []line) {
	for _, s := range []struct {
		alg, name string
		least     float64
	}{
		{OAEP, Decrypt, 0.95},
		{"RS256", Unverified, 0.95},
		{"RS256", Verified, 0.88},
		{"ES256", Unverified, 0.75},
		{"ES256", Verified, 0.37},
		{"ES256", Unverified + Batches(64), 0.90},
		{"ES256", Verified + Batches(64), 0.42},
	} {
		l := line{what: fmt.Sprintf("%s %s, 64 clients: throughput, of that in process", s.alg, s.name), limit: fmt.Sprintf("at least %.2f", s.least)}
		d := r.find(s.alg, s.name, 64)
		if !d.usable() {
			list = append(list, l.missing())
			continue
		}

		l = l.judge(d.Ratio, d.Ratio.Median >= s.least)
		if d.OfLimit.Median > 0 {
			l.measured += fmt.Sprintf("; of the limit %.2f", d.OfLimit.Median)
		}
		list = append(list, l)
	}
	return list
}

// costLines are about what one ES256 request costs with 64 clients.
func (r Report) costLines() (list []line) {
	for _, name := range []string{Unverified, Verified} {
		l := line{what: "ES256 " + name + ", 64 clients: the daemon's own CPU, user, beside token, verify and kernel, µs", limit: "at most 30"}
		d, verify, ok := r.find("ES256", name, 64), 0.0, true
		if name == Verified {
			// What verification costs is known from the backend with and without it.
			on, off := r.find("ES256", Backend, 64), r.find("ES256", Backend+VerifyOff, 64)
			if ok = on.usable() && off.usable(); ok {
				verify = on.ClientCPU.User - off.ClientCPU.User
			}
		}
		if !d.usable() || !ok {
			list = append(list, l.missing())
			continue
		}

		own := d.DaemonCPU.User - d.RefCPU.User - verify
		l.measured = fmt.Sprintf("%.0f own + %.0f token + %.0f verify + %.0f kernel = %.0f", own, d.RefCPU.User, verify, d.DaemonCPU.System, d.DaemonCPU.total())
		l.verdict = yes(own <= 30)
		list = append(list, l)
	}

	atMost := func(name, what string, limit float64, figure func(*Duel) float64) {
		l := line{what: fmt.Sprintf("ES256 %s, 64 clients: %s", name, what), limit: fmt.Sprintf("at most %.0f", limit)}.missing()
		if d := r.find("ES256", name, 64); d.usable() {
			l.measured, l.verdict = fmt.Sprintf("%.1f", figure(d)), yes(figure(d) <= limit)
		}
		list = append(list, l)
	}
	atMost(Unverified, "allocations a request", 40, func(d *Duel) float64 { return d.Mallocs })
	atMost(Verified, "allocations a request", 40, func(d *Duel) float64 { return d.Mallocs })
	atMost(Unverified, "the Go client's CPU a request, µs", 15, func(d *Duel) float64 { return d.ClientCPU.total() })
	return list
}

func (r Report) memoryLines() []line {
	rest := line{what: "resident memory of a daemon with 10 keys at rest, MiB", limit: "at most 30"}.missing()
	under := line{what: "the same under 64 clients", limit: "at most 60"}.missing()
	after := line{what: "the same after ten times as many requests", limit: "the same within 5 %"}.missing()
	if m := r.Memory; m != nil {
		rest.measured, rest.verdict = fmt.Sprintf("%.1f", m.AtRest), yes(m.AtRest <= 30)
		under.measured, under.verdict = fmt.Sprintf("%.1f", m.Under), yes(m.Under <= 60)
	}
	if s := r.Soak; s != nil {
		after.measured = fmt.Sprintf("%.1f after %d, %.1f after %d, %d failures", s.FirstMiB, s.First, s.MiB, s.Requests, s.Failures)
		after.verdict = yes(s.MiB <= 1.05*s.FirstMiB && s.Failures == 0)
	}
	return []line{rest, under, after}
}

// startLines are about many keys: how long the daemon takes to start with them, and
// whether they cost throughput.
func (r Report) startLines() (list []line) {
	for _, keys := range []int{SmallKeys, LargeKeys} {
		l := line{what: fmt.Sprintf("start to ready with %d keys, ms", keys), verdict: notMeasured}
		if keys == SmallKeys {
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

	l := line{what: "ES256, 64 clients: 200 keys and 1,000 objects beside 10 keys, throughput", limit: "the same within 5 %"}
	d := r.find("ES256", Large, 64)
	if !d.usable() {
		return append(list, l.missing())
	}
	return append(list, l.judge(d.Ratio, math.Abs(d.Ratio.Median-1) <= 0.05 || d.Ratio.Median > 1))
}

// clientLines are about one daemon with few and with many clients.
func (r Report) clientLines() []line {
	never := line{what: "ES256, 1 to 1,000 clients: throughput at any number of clients, of its best with fewer", limit: "at least 0.9"}
	least := line{what: "the same: throughput with 1 client, of its best with any"}
	slowest := line{what: "the same: the slowest client's share, of the mean", limit: "at least 0.5"}

	worst, best, first, share := 1.0, 0.0, 0.0, 1.0
	worstAt, shareAt, noisy := 1, 1, false
	for _, n := range Many {
		d := r.find("ES256", ToItself, n)
		if !d.usable() {
			return []line{never.missing(), least.missing(), slowest.missing()}
		}
		noisy = noisy || d.Ratio.Noisy()
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

	never.measured, never.verdict = fmt.Sprintf("%.2f, with %d", worst, worstAt), yes(worst >= 0.9)
	if noisy {
		never.verdict = tooNoisy
	}
	least.measured, least.verdict = fmt.Sprintf("%.2f", first/best), reported
	slowest.measured, slowest.verdict = fmt.Sprintf("%.2f, with %d", share, shareAt), yes(share >= 0.5)
	return []line{never, least, slowest}
}

// addedP50Lines are about what a client alone waits more than in process.
func (r Report) addedP50Lines() (list []line) {
	for _, c := range []struct {
		name string
		most float64
	}{{Unverified, 70}, {Verified, 200}, {Unverified + NoSync, 70}, {Verified + NoSync, 200}} {
		l := line{what: "ES256 " + c.name + ", 1 client: p50 more than in process, µs", limit: fmt.Sprintf("at most %.0f", c.most)}
		d := r.find("ES256", c.name, 1)
		if !d.usable() {
			list = append(list, l.missing())
			continue
		}
		added := d.P50 - d.RefP50
		l.measured, l.verdict = fmt.Sprintf("%.0f", added), yes(added <= c.most)
		if r.Disk != nil && !strings.HasSuffix(c.name, NoSync) {
			l.measured += fmt.Sprintf("; the disk alone takes %.0f", r.Disk.P50)
		}
		list = append(list, l)
	}
	return list
}

func (r Report) p99Line(alg, name string) line {
	l := line{what: fmt.Sprintf("%s %s, 64 clients: p99, of that in process", alg, name), limit: "at most 0.5"}
	d := r.find(alg, name, 64)
	if !d.usable() {
		return l.missing()
	}
	return l.judge(d.P99Ratio, d.P99Ratio.Median <= 0.5)
}

// p11KitLines compare signetd with p11-kit's server: their ratios to the token in
// process, and what a client alone waits more than in process.
func (r Report) p11KitLines() (list []line) {
	for _, c := range []struct {
		name    string
		clients int
		least   float64
	}{{Unverified, 8, 1.2}, {Unverified, 64, 3}, {Verified, 64, 1}} {
		l := line{what: fmt.Sprintf("ES256 %s, %d clients: throughput, of p11-kit server's", c.name, c.clients), limit: fmt.Sprintf("at least %.1f", c.least)}.missing()
		if own, other := r.find("ES256", c.name, c.clients), r.find("ES256", P11Kit, c.clients); own.usable() && other.usable() {
			of := own.Ratio.Median / other.Ratio.Median
			l.measured, l.verdict = fmt.Sprintf("%.2f (%.2f / %.2f)", of, own.Ratio.Median, other.Ratio.Median), yes(of >= c.least)
		}
		list = append(list, l)
	}

	for _, name := range []string{Unverified, Unverified + NoSync} {
		l := line{what: "ES256 " + name + ", 1 client: p50 more than in process, µs, beside p11-kit server's", limit: "no more"}.missing()
		if own, other := r.find("ES256", name, 1), r.find("ES256", P11Kit, 1); own.usable() && other.usable() {
			mine, theirs := own.P50-own.RefP50, other.P50-other.RefP50
			l.measured, l.verdict = fmt.Sprintf("%.0f / %.0f", mine, theirs), yes(mine <= theirs)
		}
		list = append(list, l)
	}
	return list
}

func (r Report) toolLine() line {
	l := line{what: "ES256, 64 clients (verify off): throughput, of one process after the other", limit: "at least 100"}
	d := r.find("ES256", ToTool, 64)
	if !d.usable() {
		return l.missing()
	}
	l = l.judge(d.Ratio, d.Ratio.Median >= 100)
	l.measured = fmt.Sprintf("%.0f (%.0f to %.0f)", d.Ratio.Median, d.Ratio.Low, d.Ratio.High)
	return l
}

// failureLine counts what failed in signetd's rows. A row that could not be measured
// counts as one failure.
func (r Report) failureLine() line {
	l := line{what: "failures of signetd's requests, in all rows", limit: "none"}
	failures, rows := 0, 0
	for _, d := range r.Duels {
		if !strings.HasPrefix(d.Case, "signetd") {
			continue
		}
		rows++
		failures += d.Failures
		if d.Broken != "" {
			failures++
		}
	}
	if rows == 0 {
		return l.missing()
	}
	l.measured, l.verdict = fmt.Sprintf("%d in %d rows", failures, rows), yes(failures == 0)
	return l
}
