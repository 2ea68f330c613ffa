//go:build linux && cgo

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// measured is a report with a few figures.
func measured() report {
	return report{
		Date: "2026-11-25", Machine: "2 processors", LoadBefore: "0.10", LoadAfter: "1.90", Pairs: 9, SliceMillis: 150,
		Duels: []duel{
			{
				Alg: "ES256", Case: nameUnverified, Clients: 64, Ratio: spread{0.8, 0.78, 0.82}, P99Ratio: spread{0.4, 0.3, 0.45}, Reference: 18000, PerSecond: 14400,
				RefP50: 45, P50: 4000, RefP99: 30000, P99: 12000, RefCPU: cpu{40, 10}, ClientCPU: cpu{6, 8}, DaemonCPU: cpu{62, 24}, Mallocs: 36.4, DaemonRSS: 41,
			},
			{Alg: "ES256", Case: nameBackend + ", verify off", Clients: 64, Ratio: spread{0.9, 0.9, 0.9}, ClientCPU: cpu{44, 10}},
			{Alg: "ES256", Case: nameBackend, Clients: 64, Ratio: spread{0.5, 0.5, 0.5}, ClientCPU: cpu{104, 10}},
			{Alg: "ES256", Case: nameVerified, Clients: 64, Ratio: spread{0.4, 0.1, 0.5}, RefCPU: cpu{40, 10}, DaemonCPU: cpu{125, 24}, Mallocs: 52, Failures: 2, Failure: "a|b\nc"},
			{Alg: "ES256", Case: nameP11Kit, Clients: 64, Broken: "no p11-kit"},
			{Alg: "ES256", Case: nameToProcess, Clients: 64, Against: "one process after the other", Ratio: spread{120, 110, 130}, RefFailures: 1},
		},
		Disk:     &disk{P50: 150, P99: 900, Writes: 6000},
		StartUps: []startUp{{Keys: 10, Objects: 20, Millis: spread{45, 44, 47}}, {Keys: 200, Objects: 1000, Millis: spread{300, 290, 310}}},
		Memory:   &memory{AtRest: 28.2, Under: 61.5},
		Soak:     &soak{First: 200_000, FirstMiB: 50, Requests: 2_000_000, MiB: 52},
	}
}

func TestTable(t *testing.T) {
	got := string(measured().table())
	want := headRun + `
Measured on 2026-11-25, 2 processors, load average 0.10 before and 1.90 after: the median of 9 pairs of slices of 150 ms, and the quartiles round it.
` + explanation + `
![Throughput over clients](performance-throughput.svg)
![p99 over clients](performance-p99.svg)

The disk alone, one writer that appends 400 bytes and calls fsync: p50 150 µs, p99 900 µs.

| alg | case | clients | of the in-process throughput | p50 µs, beside in process | p99 ms, beside in process | CPU µs: in process; daemon; client | allocations; MiB | failures |
|---|---|---|---|---|---|---|---|---|
| ES256 | signetd jwt/sign, verify off | 64 | 0.80 (0.78 to 0.82) | 4000 / 45 | 12.0 / 30.0 | 40+10; 62+24; 6+8 | 36; 41 | 0 |
| ES256 | backend alone, verify off | 64 | 0.90 (0.90 to 0.90) | 0 / 0 | 0.0 / 0.0 | 0+0; -; 44+10 |  | 0 |
| ES256 | backend alone | 64 | 0.50 (0.50 to 0.50) | 0 / 0 | 0.0 / 0.0 | 0+0; -; 104+10 |  | 0 |
| ES256 | signetd jwt/sign | 64 | 0.40 (0.10 to 0.50) too noisy | 0 / 0 | 0.0 / 0.0 | 40+10; 125+24; 0+0 |  | 2: a/b c |
| ES256 | p11-kit server | 64 | failed: no p11-kit | | | | | |

| alg | case | clients | of the reference's throughput | p50 µs, beside it | p99 ms, beside it | CPU µs: reference; daemon; client | allocations; MiB | failures |
|---|---|---|---|---|---|---|---|---|
| ES256 | signetd jwt/sign, verify off, beside one process after the other (pkcs11-tool) | 64 | 120.00 (110.00 to 130.00) | 0 / 0 | 0.0 / 0.0 | 0+0; -; 0+0 |  | 0, of the reference 1 |
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// verdicts are the measured figure and the verdict of each line of a report.
func verdicts(r report) map[string]string {
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
		{"ES256 signetd jwt/sign, verify off, 1 client: p50 more than in process, µs", notMeasured},
		{"ES256, 64 clients (verify off): throughput, of one process after the other", "120 (110 to 130) yes"},
		{"failures of signetd's requests, in all rows", "2 in 3 rows no"},
	} {
		if got[l[0]] != l[1] {
			t.Errorf("%s: %q, want %q", l[0], got[l[0]], l[1])
		}
	}
}

// Of many clients: what is judged is the worst of all numbers, and whether it can be.
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
		var r report
		for _, n := range many {
			d := duel{Alg: "ES256", Case: nameToItself, Clients: n, Ratio: spread{1, 1, 1}, LeastShare: 0.8}
			if v, ok := tt.ratio[n]; ok {
				d.Ratio = spread{v, v, v}
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
		for _, l := range r.overClients() {
			got = append(got, l.measured+" "+l.verdict)
		}
		if diff := cmp.Diff([]string{tt.never, tt.one, tt.slowest}, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// What was not measured is said to be so, and never held.
func TestLinesOfNothing(t *testing.T) {
	for _, l := range (report{}).lines() {
		if l.verdict != notMeasured || l.measured != "" {
			t.Errorf("%s: %q, %s", l.what, l.measured, l.verdict)
		}
	}
}

func TestRewrite(t *testing.T) {
	r := measured()
	for _, old := range []string{headRun + "\nold figures\n", headAgainst + "\nold lines\n\n" + headRun + "\nold figures\n"} {
		name := filepath.Join(t.TempDir(), "performance.md")
		const prose = "# Performance\n\nWhat people wrote.\n\n"
		if err := os.WriteFile(name, []byte(prose+old), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time its own form
			if err := r.rewrite(name); err != nil {
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
		for _, plot := range []string{throughputPlot, p99Plot} {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), plot)); err != nil {
				t.Error(err)
			}
		}
	}
	name := filepath.Join(t.TempDir(), "other.md")
	if err := os.WriteFile(name, []byte("# Other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.rewrite(name); err == nil {
		t.Error("a file without a report was rewritten")
	}
}
