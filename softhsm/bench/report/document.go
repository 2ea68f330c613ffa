package report

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
)

// The headings of what docs/performance.md has from a run, in their order, and the plots
// beside it.
const (
	headRun        = "## The run\n"
	headGains      = "## What each mechanism gains\n"
	headAgainst    = "## Against the lines\n"
	throughputPlot = "performance-throughput.svg"
	p99Plot        = "performance-p99.svg"
)

// Rewrite puts the report in the place of the last one in a Markdown file: from the first
// of its headings to the end. The rows and the plots go beside the file.
func (r Report) Rewrite(name string) error {
	text, err := os.ReadFile(name) // #nosec G304 -- the user names the file
	if err != nil {
		return err
	}

	first := -1
	for _, head := range []string{headRun, headGains, headAgainst} {
		if i := bytes.Index(text, []byte(head)); i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	if first < 0 {
		return fmt.Errorf("%s: no heading %q", name, headRun)
	}

	if err := save(name, slices.Concat(text[:first], r.markdown())); err != nil {
		return err
	}
	return r.writeBeside(name)
}

// markdown is the report as docs/performance.md has it.
func (r Report) markdown() []byte {
	return slices.Concat(r.run(), r.gains(), bytes.TrimSuffix(r.Against(), []byte("\n")))
}

// explanation says how to read the table.
const explanation = `A ratio is the throughput of a case divided by that of its reference, pair by pair. Of two, the first is
to the token in process, the second to the limit, a bare Unix socket in C, with as many clients. For
batches it counts items, and the references have no batches. p50 and p99 are of a call, which is a whole
batch where there are batches. CPU is user + kernel time of an operation in µs, the token's work included.
All rows, those of more cases, their quartiles and failures are in [performance.csv](performance.csv).
`

type shownCases struct {
	alg   string
	cases []string
}

// shown are the cases in the table, if they were measured.
var shown = []shownCases{
	{"ES256", []string{
		Limit, Crypto11, P11Kit, Tool, Backend + VerifyOff, Backend, Service,
		Unverified + NoSync, Verified + NoSync, Unverified, Verified, Unverified + Batches(64), Verified + Batches(64),
	}},
	{"RS256", []string{Limit, P11Kit, Unverified, Verified, Unverified + Batches(64)}},
	{"PS256", []string{Limit, Unverified, Verified}},
	{"EdDSA", []string{Limit, Unverified, Verified}},
	{OAEP, []string{Limit, P11Kit, Decrypt, Decrypt + Batches(64)}},
}

// Shown reports whether the document needs a case, for a table or for a line.
func Shown(alg, name string) bool {
	if name == ToItself || name == Large || name == ToTool {
		return true
	}
	return slices.ContainsFunc(shown, func(s shownCases) bool { return s.alg == alg && slices.Contains(s.cases, name) })
}

// run is what was measured, and the table of the cases that are shown.
func (r Report) run() []byte {
	var b bytes.Buffer
	b.WriteString(headRun)
	fmt.Fprintf(&b, "\nMeasured on %s, %s, load average %s before and %s after: medians of %d pairs of slices of %d ms.\n", r.Date, r.Machine, r.LoadBefore, r.LoadAfter, r.Pairs, r.SliceMillis)
	b.WriteString(explanation)
	b.WriteString(r.summary())

	b.WriteString("\n| alg | case | with 1 client | with 8 | with 64 | p50 µs with 1, beside in process | p99 ms with 64, beside in process | CPU with 64: daemon; client | allocations |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range shown {
		for _, name := range s.cases {
			b.WriteString(r.row(s.alg, name))
		}
	}

	if d := r.Disk; d != nil {
		fmt.Fprintf(&b, "\nThe disk alone, one writer that appends %d bytes and calls fsync: p50 %.0f µs, p99 %.0f µs.\n", RecordBytes, d.P50, d.P99)
	}
	fmt.Fprintf(&b, "\n![Throughput over clients](%s)\n![p99 over clients](%s)\n\n", throughputPlot, p99Plot)
	return b.Bytes()
}

// summary says in words what a reader looks for first, as far as it was measured.
func (r Report) summary() string {
	var b strings.Builder
	kept := func(what, alg string, names ...string) {
		var list []string
		for _, name := range names {
			d := r.find(alg, name, 64)
			if !d.usable() {
				return
			}
			list = append(list, d.ratios())
		}
		fmt.Fprintf(&b, "- %s: %s.\n", what, strings.Join(list, "; "))
	}
	kept("ES256 with 64 clients, signatures not verified; and verified", "ES256", Unverified, Verified)
	kept("The same without fsync", "ES256", Unverified+NoSync, Verified+NoSync)
	kept("The same in batches of 64", "ES256", Unverified+Batches(64), Verified+Batches(64))
	kept("RS256 with 64 clients, signatures not verified; and verified", "RS256", Unverified, Verified)
	kept("RSA-OAEP-256 with 64 clients; and in batches of 64", OAEP, Decrypt, Decrypt+Batches(64))

	sync, noSync, limit := r.find("ES256", Unverified, 1), r.find("ES256", Unverified+NoSync, 1), r.find("ES256", Limit, 1)
	if sync.usable() && noSync.usable() && limit.usable() && r.Disk != nil {
		fmt.Fprintf(&b, "- One client alone waits %.0f µs more than in process for an ES256 signature, %.0f without fsync. The limit adds %.0f, and an fsync alone takes %.0f.\n",
			sync.addedP50(), noSync.addedP50(), limit.addedP50(), r.Disk.P50)
	}
	if m := r.Memory; m != nil {
		fmt.Fprintf(&b, "- Resident memory: %.0f MiB at rest, %.0f with 64 clients.\n", m.AtRest, m.Under)
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n" + b.String()
}

// row is the line of a case in the table, or nothing if it was not measured.
func (r Report) row(alg, name string) string {
	row, measured := fmt.Sprintf("| %s | %s |", alg, name), false
	for _, clients := range Few {
		d := r.find(alg, name, clients)
		measured = measured || d != nil
		row += " " + d.ratios() + " |"
	}
	if !measured {
		return ""
	}

	p50, p99, cpu, mallocs := "", "", "", ""
	if d := r.find(alg, name, Few[0]); d.usable() {
		p50 = fmt.Sprintf("%.0f / %.0f", d.P50, d.RefP50)
	}
	if d := r.find(alg, name, Few[len(Few)-1]); d.usable() {
		p99, cpu = fmt.Sprintf("%.1f / %.1f", d.P99/1e3, d.RefP99/1e3), "-; "+d.ClientCPU.String()
		if d.DaemonCPU.total() > 0 {
			cpu, mallocs = d.DaemonCPU.String()+"; "+d.ClientCPU.String(), fmt.Sprintf("%.0f", d.Mallocs)
		}
	}
	return row + fmt.Sprintf(" %s | %s | %s | %s |\n", p50, p99, cpu, mallocs)
}

// ratios are a duel's in a cell of the table.
func (d *Duel) ratios() string {
	switch {
	case d == nil:
		return ""
	case d.Broken != "":
		return "failed: " + cell(d.Broken)
	}

	text := number(d.Ratio)
	if d.OfLimit.Median > 0 {
		text += " / " + number(d.OfLimit)
	}
	if d.Failures > 0 {
		text += fmt.Sprintf(" (%d failed)", d.Failures)
	}
	return text
}

func number(s Spread) string {
	text := fmt.Sprintf("%.2f", s.Median)
	if s.Median != 0 && s.Median < 0.1 {
		text = fmt.Sprintf("%.3f", s.Median)
	}
	if s.Noisy() {
		text += " (too noisy)"
	}
	return text
}

// cell makes text fit into a cell of a table.
func cell(text string) string { return strings.NewReplacer("|", "/", "\n", " ").Replace(text) }
