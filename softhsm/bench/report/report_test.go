package report

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// measured is a report with a few figures.
func measured() Report {
	return Report{
		Date: "2026-11-25", Machine: "2 processors", LoadBefore: "0.10", LoadAfter: "1.90", Pairs: 9, SliceMillis: 150,
		Duels: []Duel{
			{
				Alg: "ES256", Case: Unverified, Clients: 64, Ratio: Spread{0.8, 0.78, 0.82}, P99Ratio: Spread{0.4, 0.3, 0.45}, Reference: 18000, PerSecond: 14400,
				OfLimit: Spread{0.85, 0.8, 0.9}, RefP50: 45, P50: 4000, RefP99: 30000, P99: 12000, RefCPU: CPU{40, 10}, ClientCPU: CPU{6, 8}, DaemonCPU: CPU{62, 24}, Mallocs: 36.4, DaemonRSS: 41,
			},
			{Alg: "ES256", Case: Backend + VerifyOff, Clients: 64, Ratio: Spread{0.9, 0.9, 0.9}, ClientCPU: CPU{44, 10}},
			{Alg: "ES256", Case: Backend, Clients: 64, Ratio: Spread{0.5, 0.5, 0.5}, ClientCPU: CPU{104, 10}},
			{Alg: "ES256", Case: Verified, Clients: 64, Ratio: Spread{0.4, 0.1, 0.5}, RefCPU: CPU{40, 10}, DaemonCPU: CPU{125, 24}, Mallocs: 52, Failures: 2, Failure: "a|b\nc"},
			{Alg: "ES256", Case: P11Kit, Clients: 64, Broken: "no p11-kit"},
			{Alg: "ES256", Case: ToTool, Clients: 64, Against: "one process after the other", Ratio: Spread{120, 110, 130}, RefFailures: 1},
			{Alg: "ES256", Case: Unverified, Clients: 1, Ratio: Spread{0.05, 0.05, 0.05}, OfLimit: Spread{0.06, 0.06, 0.06}, P99Ratio: Spread{1, 1, 1}, RefP50: 43, P50: 300, RefP99: 60, P99: 500},
		},
		Disk:     &Disk{P50: 150, P99: 900, Writes: 6000},
		StartUps: []StartUp{{Keys: 10, Objects: 20, Millis: Spread{45, 44, 47}}, {Keys: 200, Objects: 1000, Millis: Spread{300, 290, 310}}},
		Memory:   &Memory{AtRest: 28.2, Under: 61.5},
		Soak:     &Soak{First: 200_000, FirstMiB: 50, Requests: 2_000_000, MiB: 52},
	}
}

func TestRun(t *testing.T) {
	got := string(measured().run())
	want := headRun + `
Measured on 2026-11-25, 2 processors, load average 0.10 before and 1.90 after: medians of 9 pairs of slices of 150 ms.
` + explanation + `
- ES256 with 64 clients, signatures not verified; and verified: 0.80 / 0.85; 0.40 (too noisy) (2 failed).
- Resident memory: 28 MiB at rest, 62 with 64 clients.

| alg | case | with 1 client | with 8 | with 64 | p50 µs with 1, beside in process | p99 ms with 64, beside in process | CPU with 64: daemon; client | allocations |
|---|---|---|---|---|---|---|---|---|
| ES256 | p11-kit server |  |  | failed: no p11-kit |  |  |  |  |
| ES256 | backend alone, verify off |  |  | 0.90 |  | 0.0 / 0.0 | -; 44+10 |  |
| ES256 | backend alone |  |  | 0.50 |  | 0.0 / 0.0 | -; 104+10 |  |
| ES256 | signetd jwt/sign, verify off | 0.050 / 0.060 |  | 0.80 / 0.85 | 300 / 43 | 12.0 / 30.0 | 62+24; 6+8 | 36 |
| ES256 | signetd jwt/sign |  |  | 0.40 (too noisy) (2 failed) |  | 0.0 / 0.0 | 125+24; 0+0 | 52 |

The disk alone, one writer that appends 400 bytes and calls fsync: p50 150 µs, p99 900 µs.

![Throughput over clients](performance-throughput.svg)
![p99 over clients](performance-p99.svg)

`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Each duel has a row, also those that the table in the document leaves out.
func TestCSV(t *testing.T) {
	r := measured()
	text, err := r.csv()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 1+len(r.Duels) {
		t.Fatalf("%d rows (%v), want a head and %d duels", len(rows), err, len(r.Duels))
	}

	value := func(row int, column string) string { return rows[row][slices.Index(rows[0], column)] }
	for _, want := range []struct {
		row           int
		column, value string
	}{
		{1, "case", Unverified}, {1, "clients", "64"}, {1, "reference", "token in process"}, {1, "ratio", "0.8"}, {1, "ratio_low", "0.78"}, {1, "ratio_high", "0.82"},
		{1, "of_limit", "0.85"}, {1, "per_second", "14400"}, {1, "reference_p99_us", "30000"}, {1, "daemon_cpu_kernel_us", "24"}, {1, "daemon_allocations", "36.4"},
		{2, "of_limit", ""}, {4, "failures", "2"}, {4, "error", "a|b\nc"}, {5, "error", "no p11-kit"}, {6, "reference", "one process after the other"},
	} {
		if got := value(want.row, want.column); got != want.value {
			t.Errorf("row %d, %s: %q, want %q", want.row, want.column, got, want.value)
		}
	}
}

// The document is one that a run has written.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, part := range []string{headRun, explanation, headGains, headAgainst} {
		i := bytes.Index(text[at:], []byte(part))
		if i < 0 {
			t.Fatalf("docs/performance.md has no %q, or not in its place", part)
		}
		at += i
	}

	f, err := os.Open("../../../docs/performance.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatalf("docs/performance.csv: %d rows, %v", len(rows), err)
	}
	for i, c := range (Duel{}).columns() {
		if rows[0][i] != c.name {
			t.Errorf("column %d of docs/performance.csv is %s, want %s", i+1, rows[0][i], c.name)
		}
	}
}

// verdicts are the measured figure and the verdict of each line of a report.
func verdicts(r Report) map[string]string {
	list := map[string]string{}
	for _, l := range r.lines() {
		list[l.what] = strings.TrimSpace(l.measured + " " + l.verdict)
	}
	return list
}

func TestLines(t *testing.T) {
	got := verdicts(measured())
	for _, l := range [][2]string{
		{"ES256 signetd jwt/sign, verify off, 64 clients: the daemon's own CPU, user, beside token, verify and kernel, µs", "22 own + 40 token + 0 verify + 24 kernel = 86 yes"},
		{"ES256 signetd jwt/sign, 64 clients: the daemon's own CPU, user, beside token, verify and kernel, µs", "25 own + 40 token + 60 verify + 24 kernel = 149 yes"},
		{"ES256 signetd jwt/sign, verify off, 64 clients: allocations a request", "36.4 yes"},
		{"ES256 signetd jwt/sign, 64 clients: allocations a request", "52.0 no"},
		{"ES256 signetd jwt/sign, verify off, 64 clients: the Go client's CPU a request, µs", "14.0 yes"},
		{"resident memory of a daemon with 10 keys at rest, MiB", "28.2 yes"},
		{"the same under 64 clients", "61.5 no"},
		{"the same after ten times as many requests", "50.0 after 200000, 52.0 after 2000000, 0 failures yes"},
		{"start to ready with 10 keys in a token of 20 objects, ms", "45 (44 to 47) yes"},
		{"start to ready with 200 keys in a token of 1000 objects, ms", "300 (290 to 310) -"},
		{"ES256, 64 clients: 200 keys and 1,000 objects beside 10 keys, throughput", notMeasured},
		{"ES256 signetd jwt/sign, verify off, 64 clients: p99, of that in process", "0.40 (0.30 to 0.45) yes"},
		{"RS256 signetd jwt/sign, verify off, 64 clients: p99, of that in process", notMeasured},
		{"ES256 signetd jwt/sign, verify off, 64 clients: throughput, of p11-kit server's", notMeasured},
		{"RS256 signetd jwt/sign, 64 clients: throughput, of that in process", notMeasured},
		{"ES256 signetd jwt/sign, verify off, 1 client: p50 more than in process, µs", "257; the disk alone takes 150 no"},
		{"ES256 signetd jwt/sign, verify off, 64 clients: throughput, of that in process", "0.80 (0.78 to 0.82); of the limit 0.85 yes"},
		{"ES256, 64 clients (verify off): throughput, of one process after the other", "120 (110 to 130) yes"},
		{"failures of signetd's requests, in all rows", "2 in 4 rows no"},
	} {
		if got[l[0]] != l[1] {
			t.Errorf("%s: %q, want %q", l[0], got[l[0]], l[1])
		}
	}
}

// The worst number of clients decides, unless a ratio is too noisy.
func TestLinesOverClients(t *testing.T) {
	tests := []struct {
		name                string
		ratio, share        map[int]float64 // 1 and 0.8 where absent
		noisy               int
		never, one, slowest string
	}{
		{"even", nil, nil, 0, "1.00, with 1 yes", "1.00 -", "0.80, with 1 yes"},
		{"one is slow", map[int]float64{1: 0.2}, nil, 0, "1.00, with 1 yes", "0.20 -", "0.80, with 1 yes"},
		{"many are slow", map[int]float64{512: 0.8}, map[int]float64{512: 0.4}, 0, "0.80, with 512 no", "1.00 -", "0.40, with 512 no"},
		{"noise", nil, nil, 64, "1.00, with 1 too noisy", "1.00 -", "0.80, with 1 yes"},
	}
	for _, tt := range tests {
		var r Report
		for _, n := range Many {
			d := Duel{Alg: "ES256", Case: ToItself, Clients: n, Ratio: Spread{1, 1, 1}, LeastShare: 0.8}
			if v, ok := tt.ratio[n]; ok {
				d.Ratio = Spread{v, v, v}
			}
			if v, ok := tt.share[n]; ok {
				d.LeastShare = v
			}
			if n == tt.noisy {
				d.Ratio.High = 2
			}
			r.Duels = append(r.Duels, d)
		}
		var got []string
		var lines judgement
		r.clientLines(&lines)
		for _, l := range lines {
			got = append(got, l.measured+" "+l.verdict)
		}
		if diff := cmp.Diff([]string{tt.never, tt.one, tt.slowest}, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// A line whose figures were not measured says so, and is never held.
func TestLinesOfNothing(t *testing.T) {
	for _, l := range (Report{}).lines() {
		if l.verdict != notMeasured || l.measured != "" {
			t.Errorf("%s: %q, %s", l.what, l.measured, l.verdict)
		}
	}
}

func TestRewrite(t *testing.T) {
	r := measured()
	for _, old := range []string{headRun + "\nold figures\n", headAgainst + "\nold lines\n\n" + headRun + "\nold figures\n", headRun + "\nold figures\n\n" + headGains + "\nold gains\n"} {
		name := filepath.Join(t.TempDir(), "performance.md")
		const prose = "# Performance\n\nWhat people wrote.\n\n"
		if err := os.WriteFile(name, []byte(prose+old), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time its own form
			if err := r.Rewrite(name); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(prose+string(r.markdown()), string(got)); diff != "" {
			t.Error(diff)
		}
		for _, plot := range []string{throughputPlot, p99Plot, "performance.csv"} {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), plot)); err != nil {
				t.Error(err)
			}
		}
	}
	name := filepath.Join(t.TempDir(), "other.md")
	if err := os.WriteFile(name, []byte("# Other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Rewrite(name); err == nil {
		t.Error("a file without a Report was rewritten")
	}
}
