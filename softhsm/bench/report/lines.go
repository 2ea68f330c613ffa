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

// judge returns the measured text of a ratio, and the verdict on it unless it is too
// noisy.
func judge(s Spread, held bool) (measured, verdict string) {
	if verdict = yes(held); s.Noisy() {
		verdict = tooNoisy
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Low, s.High), verdict
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

// A judgement is a list of lines in the making.
type judgement []line

// add judges a line, unless a duel that it is about was not measured.
func (j *judgement) add(what, limit string, judge func() (measured, verdict string), about ...*Duel) {
	l := line{what, limit, "", notMeasured}
	measured := true
	for _, d := range about {
		measured = measured && d.usable()
	}
	if measured {
		l.measured, l.verdict = judge()
	}
	*j = append(*j, l)
}

// skipped is what judges a line that no duel is about and that was not measured.
func skipped() (measured, verdict string) { return "", notMeasured }

func (r Report) lines() []line {
	var j judgement
	r.shareLines(&j)
	r.costLines(&j)
	r.memoryLines(&j)
	r.startLines(&j)
	r.clientLines(&j)
	r.waitLines(&j)
	r.otherLines(&j)
	return j
}

// shareLines are about the part of the in-process throughput that signetd keeps with 64
// clients.
func (r Report) shareLines(j *judgement) {
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
		d := r.find(s.alg, s.name, 64)
		j.add(fmt.Sprintf("%s %s, 64 clients: throughput, of that in process", s.alg, s.name), fmt.Sprintf("at least %.2f", s.least), func() (string, string) {
			measured, verdict := judge(d.Ratio, d.Ratio.Median >= s.least)
			if d.OfLimit.Median > 0 {
				measured += fmt.Sprintf("; of the limit %.2f", d.OfLimit.Median)
			}
			return measured, verdict
		}, d)
	}
}

// costLines are about what one ES256 request costs with 64 clients.
func (r Report) costLines(j *judgement) {
	for _, name := range []string{Unverified, Verified} {
		d := r.find("ES256", name, 64)
		about, verify := []*Duel{d}, func() float64 { return 0 }
		if name == Verified {
			// What verification costs is known from the backend with and without it.
			on, off := r.find("ES256", Backend, 64), r.find("ES256", Backend+VerifyOff, 64)
			about, verify = append(about, on, off), func() float64 { return on.ClientCPU.User - off.ClientCPU.User }
		}
		j.add("ES256 "+name+", 64 clients: the daemon's own CPU, user, beside token, verify and kernel, µs", "at most 30", func() (string, string) {
			own := d.DaemonCPU.User - d.RefCPU.User - verify()
			return fmt.Sprintf("%.0f own + %.0f token + %.0f verify + %.0f kernel = %.0f", own, d.RefCPU.User, verify(), d.DaemonCPU.System, d.DaemonCPU.total()), yes(own <= 30)
		}, about...)
	}

	mallocs := func(d *Duel) float64 { return d.Mallocs }
	for _, c := range []struct {
		name, what string
		most       float64
		figure     func(*Duel) float64
	}{
		{Unverified, "allocations a request", 40, mallocs},
		{Verified, "allocations a request", 40, mallocs},
		{Unverified, "the Go client's CPU a request, µs", 15, func(d *Duel) float64 { return d.ClientCPU.total() }},
	} {
		d := r.find("ES256", c.name, 64)
		j.add(fmt.Sprintf("ES256 %s, 64 clients: %s", c.name, c.what), fmt.Sprintf("at most %.0f", c.most), func() (string, string) {
			return fmt.Sprintf("%.1f", c.figure(d)), yes(c.figure(d) <= c.most)
		}, d)
	}
}

func (r Report) memoryLines(j *judgement) {
	rest, under, after := skipped, skipped, skipped
	if m := r.Memory; m != nil {
		rest = func() (string, string) { return fmt.Sprintf("%.1f", m.AtRest), yes(m.AtRest <= 30) }
		under = func() (string, string) { return fmt.Sprintf("%.1f", m.Under), yes(m.Under <= 60) }
	}
	if s := r.Soak; s != nil {
		after = func() (string, string) {
			return fmt.Sprintf("%.1f after %d, %.1f after %d, %d failures", s.FirstMiB, s.First, s.MiB, s.Requests, s.Failures), yes(s.MiB <= 1.05*s.FirstMiB && s.Failures == 0)
		}
	}
	j.add("resident memory of a daemon with 10 keys at rest, MiB", "at most 30", rest)
	j.add("the same under 64 clients", "at most 60", under)
	j.add("the same after ten times as many requests", "the same within 5 %", after)
}

// startLines are about many keys: how long the daemon takes to start with them, and
// whether they cost throughput.
func (r Report) startLines(j *judgement) {
	for _, keys := range []int{SmallKeys, LargeKeys} {
		what, limit, measure := fmt.Sprintf("start to ready with %d keys", keys), "", skipped
		if keys == SmallKeys {
			limit = "at most 150"
		}
		for _, up := range r.StartUps {
			if up.Keys != keys {
				continue
			}
			what += fmt.Sprintf(" in a token of %d objects", up.Objects)
			measure = func() (string, string) {
				verdict := reported
				if limit != "" {
					verdict = yes(up.Millis.Median <= 150)
				}
				return fmt.Sprintf("%.0f (%.0f to %.0f)", up.Millis.Median, up.Millis.Low, up.Millis.High), verdict
			}
		}
		j.add(what+", ms", limit, measure)
	}

	d := r.find("ES256", Large, 64)
	j.add("ES256, 64 clients: 200 keys and 1,000 objects beside 10 keys, throughput", "the same within 5 %", func() (string, string) {
		return judge(d.Ratio, math.Abs(d.Ratio.Median-1) <= 0.05 || d.Ratio.Median > 1)
	}, d)
}

// clientLines are about one daemon with few and with many clients.
func (r Report) clientLines(j *judgement) {
	worst, best, first, share := 1.0, 0.0, 0.0, 1.0
	worstAt, shareAt, noisy := 1, 1, false
	var all []*Duel
	for _, n := range Many {
		d := r.find("ES256", ToItself, n)
		all = append(all, d)
		if !d.usable() {
			continue
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

	j.add("ES256, 1 to 1,000 clients: throughput at any number of clients, of its best with fewer", "at least 0.9", func() (string, string) {
		verdict := yes(worst >= 0.9)
		if noisy {
			verdict = tooNoisy
		}
		return fmt.Sprintf("%.2f, with %d", worst, worstAt), verdict
	}, all...)
	j.add("the same: throughput with 1 client, of its best with any", "", func() (string, string) { return fmt.Sprintf("%.2f", first/best), reported }, all...)
	j.add("the same: the slowest client's share, of the mean", "at least 0.5", func() (string, string) {
		return fmt.Sprintf("%.2f, with %d", share, shareAt), yes(share >= 0.5)
	}, all...)
}

// waitLines are about how long a call takes: alone, and the slowest of a hundred.
func (r Report) waitLines(j *judgement) {
	for _, c := range []struct {
		name string
		most float64
	}{{Unverified, 70}, {Verified, 200}, {Unverified + NoSync, 70}, {Verified + NoSync, 200}} {
		d := r.find("ES256", c.name, 1)
		j.add("ES256 "+c.name+", 1 client: p50 more than in process, µs", fmt.Sprintf("at most %.0f", c.most), func() (string, string) {
			measured := fmt.Sprintf("%.0f", d.addedP50())
			if r.Disk != nil && !strings.HasSuffix(c.name, NoSync) {
				measured += fmt.Sprintf("; the disk alone takes %.0f", r.Disk.P50)
			}
			return measured, yes(d.addedP50() <= c.most)
		}, d)
	}

	for _, alg := range append(SignAlgs[:len(SignAlgs):len(SignAlgs)], OAEP) {
		name := Unverified
		if alg == OAEP {
			name = Decrypt
		}
		d := r.find(alg, name, 64)
		j.add(fmt.Sprintf("%s %s, 64 clients: p99, of that in process", alg, name), "at most 0.5", func() (string, string) {
			return judge(d.P99Ratio, d.P99Ratio.Median <= 0.5)
		}, d)
	}
}

// otherLines compare signetd with p11-kit's server, by the ratios of both to the token in
// process, and with pkcs11-tool. The last line counts failures.
func (r Report) otherLines(j *judgement) {
	for _, c := range []struct {
		name    string
		clients int
		least   float64
	}{{Unverified, 8, 1.2}, {Unverified, 64, 3}, {Verified, 64, 1}} {
		own, other := r.find("ES256", c.name, c.clients), r.find("ES256", P11Kit, c.clients)
		j.add(fmt.Sprintf("ES256 %s, %d clients: throughput, of p11-kit server's", c.name, c.clients), fmt.Sprintf("at least %.1f", c.least), func() (string, string) {
			of := own.Ratio.Median / other.Ratio.Median
			return fmt.Sprintf("%.2f (%.2f / %.2f)", of, own.Ratio.Median, other.Ratio.Median), yes(of >= c.least)
		}, own, other)
	}
	for _, name := range []string{Unverified, Unverified + NoSync} {
		own, other := r.find("ES256", name, 1), r.find("ES256", P11Kit, 1)
		j.add("ES256 "+name+", 1 client: p50 more than in process, µs, beside p11-kit server's", "no more", func() (string, string) {
			return fmt.Sprintf("%.0f / %.0f", own.addedP50(), other.addedP50()), yes(own.addedP50() <= other.addedP50())
		}, own, other)
	}

	d := r.find("ES256", ToTool, 64)
	j.add("ES256, 64 clients (verify off): throughput, of one process after the other", "at least 100", func() (string, string) {
		_, verdict := judge(d.Ratio, d.Ratio.Median >= 100)
		return fmt.Sprintf("%.0f (%.0f to %.0f)", d.Ratio.Median, d.Ratio.Low, d.Ratio.High), verdict
	}, d)

	// A row that could not be measured counts as one failure.
	failures, rows := 0, 0
	for _, d := range r.Duels {
		if strings.HasPrefix(d.Case, "signetd") {
			rows++
			failures += d.Failures
			if d.Broken != "" {
				failures++
			}
		}
	}
	count := skipped
	if rows > 0 {
		count = func() (string, string) { return fmt.Sprintf("%d in %d rows", failures, rows), yes(failures == 0) }
	}
	j.add("failures of signetd's requests, in all rows", "none", count)
}
