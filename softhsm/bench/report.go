//go:build linux && cgo

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// A report is all that a run measured.
type report struct {
	Date        string    `json:"date"`
	Machine     string    `json:"machine"`
	LoadBefore  string    `json:"load_average_before"`
	LoadAfter   string    `json:"load_average_after"`
	Pairs       int       `json:"pairs"`
	SliceMillis int       `json:"slice_ms"`
	Duels       []duel    `json:"duels"`
	Disk        *disk     `json:"disk_alone,omitempty"`
	StartUps    []startUp `json:"start_ups,omitempty"`
	Memory      *memory   `json:"memory,omitempty"`
	Soak        *soak     `json:"soak,omitempty"`
}

// machine says in a line what the figures were made on.
func machine() string {
	model := "an unknown processor"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d processors (%s), %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// load is the load average of the last minute.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(data), " ")
	return one
}

// write writes the report into dir.
func (r report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(dir, "performance.json"), append(text, '\n'), 0o600)
	return errors.Join(err, os.WriteFile(filepath.Join(dir, "performance.md"), r.markdown(), 0o600), r.plots(dir))
}

// rewriteFrom writes the report of an earlier run.
func rewriteFrom(name string, o options) error {
	text, err := os.ReadFile(name) // #nosec G304 -- the user names the file
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Print(string(against(r.lines())))
	return r.save(o)
}

// plots writes the plots into dir.
func (r report) plots(dir string) error {
	throughput := plot("ES256: signatures a second by clients", "1/s", r.curves(func(d duel) (float64, float64) { return d.Reference, d.PerSecond }))
	p99 := plot("ES256: p99 of a call by clients", "ms", r.curves(func(d duel) (float64, float64) { return d.RefP99 / 1e3, d.P99 / 1e3 }))
	err := os.WriteFile(filepath.Join(dir, throughputPlot), throughput, 0o644)     // #nosec G306 G703 -- a document, in a folder that the user names
	return errors.Join(err, os.WriteFile(filepath.Join(dir, p99Plot), p99, 0o644)) // #nosec G306 G703 -- see above
}

// rewrite puts the report in the place of the last one in a Markdown file: from the
// first of its headings on to the end. The plots go beside the file.
func (r report) rewrite(name string) error {
	text, err := os.ReadFile(name) // #nosec G304 -- the user names the file
	if err != nil {
		return err
	}
	i := bytes.Index(text, []byte(headAgainst))
	if i < 0 {
		i = bytes.Index(text, []byte(headRun))
	}
	if i < 0 {
		return fmt.Errorf("%s: no heading %q", name, headRun)
	}
	err = os.WriteFile(name, append(text[:i:i], r.markdown()...), 0o644) // #nosec G306 G703 -- a document that the user names
	return errors.Join(err, r.plots(filepath.Dir(name)))
}

// The headings of a report, and its plots.
const (
	headAgainst    = "## Against the lines\n"
	headRun        = "## The run\n"
	throughputPlot = "performance-throughput.svg"
	p99Plot        = "performance-p99.svg"
)

// markdown is the report as docs/performance.md has it.
func (r report) markdown() []byte {
	return append(against(r.lines()), r.table()...)
}

// explanation says how to read the tables.
const explanation = `Each worker's clients share one client.Client, as its documentation tells programs to do, unless a case
says "a connection each". CPU is user+kernel, of an operation; the daemon's has the token's work in it.
The kernel counts it in hundredths of a second, so it is of all pairs together. Allocations and resident
memory are the daemon's. p50 and p99 are of a call: of a whole batch, where there are batches.
`

// table is all that was measured, in Markdown.
func (r report) table() []byte {
	var b bytes.Buffer
	b.WriteString(headRun + "\n")
	fmt.Fprintf(&b, "Measured on %s, %s, load average %s before and %s after: the median of %d pairs of slices of %d ms, and the quartiles round it.\n", r.Date, r.Machine, r.LoadBefore, r.LoadAfter, r.Pairs, r.SliceMillis)
	b.WriteString(explanation)
	fmt.Fprintf(&b, "\n![Throughput over clients](%s)\n![p99 over clients](%s)\n", throughputPlot, p99Plot)
	if d := r.Disk; d != nil {
		fmt.Fprintf(&b, "\nThe disk alone, one writer that appends %d bytes and calls fsync: p50 %.0f µs, p99 %.0f µs.\n", recordBytes, d.P50, d.P99)
	}
	r.rows(&b, "| alg | case | clients | of the in-process throughput | p50 µs, beside in process | p99 ms, beside in process | CPU µs: in process; daemon; client | allocations; MiB | failures |\n|---|---|---|---|---|---|---|---|---|\n", false)
	r.rows(&b, "| alg | case | clients | of the reference's throughput | p50 µs, beside it | p99 ms, beside it | CPU µs: reference; daemon; client | allocations; MiB | failures |\n|---|---|---|---|---|---|---|---|---|\n", true)
	return b.Bytes()
}

// rows writes a table of the cases that are measured beside the token in process, or
// of the others.
func (r report) rows(b *bytes.Buffer, head string, others bool) {
	first := true
	for _, d := range r.Duels {
		if (d.Against != "") != others {
			continue
		}
		if first {
			b.WriteString("\n" + head)
			first = false
		}
		b.WriteString(d.row())
	}
}

// cell makes text fit into a cell of a table.
func cell(text string) string { return strings.NewReplacer("|", "/", "\n", " ").Replace(text) }

func (d duel) row() string {
	name := fmt.Sprintf("| %s | %s | %d |", d.Alg, d.Case, d.Clients)
	if d.Broken != "" {
		return name + fmt.Sprintf(" failed: %s | | | | | |\n", cell(d.Broken))
	}
	served, failures := "", fmt.Sprint(d.Failures)
	if d.DaemonRSS > 0 {
		served = fmt.Sprintf("%.0f; %.0f", d.Mallocs, d.DaemonRSS)
	}
	if d.Failures > 0 {
		failures += ": " + cell(d.Failure)
	}
	if d.RefFailures > 0 {
		failures += fmt.Sprintf(", of the reference %d", d.RefFailures)
	}
	daemon := d.DaemonCPU.String()
	if d.DaemonCPU.total() == 0 {
		daemon = "-"
	}
	return name + fmt.Sprintf(" %s | %.0f / %.0f | %.1f / %.1f | %s; %s; %s | %s | %s |\n", d.Ratio, d.P50, d.RefP50, d.P99/1e3, d.RefP99/1e3,
		d.RefCPU, daemon, d.ClientCPU, served, failures)
}
