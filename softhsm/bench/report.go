//go:build linux && cgo

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// A report is all that a run measured.
type report struct {
	Date        string `json:"date"`
	Machine     string `json:"machine"`
	LoadAfter   string `json:"load_average_after"`
	Pairs       int    `json:"pairs"`
	SliceMillis int    `json:"slice_ms"`
	Duels       []duel `json:"duels"`
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
	for name, data := range map[string][]byte{
		"performance.json": append(text, '\n'),
		"performance.md":   r.table(),
		"throughput.svg":   plot("ES256: signatures a second by clients", "1/s", r.curves(func(d duel) (float64, float64) { return d.Reference, d.PerSecond })),
		"p99.svg":          plot("ES256: p99 of a call by clients", "ms", r.curves(func(d duel) (float64, float64) { return d.RefP99 / 1e3, d.P99 / 1e3 })),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// table is the report in Markdown.
func (r report) table() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Measured on %s, %s, load average afterwards %s: the median of %d pairs of slices of %d ms, and the quartiles round it.\n\n", r.Date, r.Machine, r.LoadAfter, r.Pairs, r.SliceMillis)
	b.WriteString("| alg | case | clients | of the in-process throughput | p50 µs, beside in process | p99 ms, beside in process | CPU µs: token, daemon with token, client | failures |\n|---|---|---|---|---|---|---|---|\n")
	for _, d := range r.Duels {
		fmt.Fprintf(&b, "| %s | %s | %d | %.2f (%.2f to %.2f) | %.0f / %.0f | %.1f / %.1f | %.0f, %.0f, %.0f | %d |\n", d.Alg, d.Case, d.Clients,
			d.Ratio.Median, d.Ratio.Low, d.Ratio.High, d.P50, d.RefP50, d.P99/1e3, d.RefP99/1e3, d.RefCPU, d.DaemonCPU, d.ClientCPU, d.Failures)
	}
	return b.Bytes()
}

// plotted are the cases in the plots, by the name in the legend.
var plotted = map[string]string{
	"signetd jwt/sign": "signetd", "signetd jwt/sign, verify off": "signetd, verify off", "p11-kit server": "p11-kit server",
}

// curves are those of the plots. Both figures of a duel make a point: the reference's
// is that of the duel with signetd.
func (r report) curves(figures func(duel) (reference, own float64)) []curve {
	var list []curve
	add := func(name string, clients int, y float64) {
		for i := range list {
			if list[i].name == name {
				list[i].points = append(list[i].points, point{float64(clients), y})
				return
			}
		}
		list = append(list, curve{name: name, points: []point{{float64(clients), y}}})
	}
	for _, d := range r.Duels {
		name, ok := plotted[d.Case]
		if d.Alg != "ES256" || !ok {
			continue
		}
		reference, own := figures(d)
		if name == "signetd" {
			add("in process", d.Clients, reference)
		}
		add(name, d.Clients, own)
	}
	return list
}
