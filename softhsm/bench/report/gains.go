package report

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A mechanism is code written by hand in the place of a library or of something simpler.
// A benchmark beside it runs both through the same path.
type mechanism struct {
	name      string
	instead   string // what it stands in for
	pkg       string // a folder of this repository
	benchmark string // without "Benchmark"
	ours      string // sub-benchmark
	other     string // sub-benchmark of what is replaced
	unit      string // of the figure that is compared, "ns/op" if empty
}

func (m mechanism) figure() string {
	if m.unit == "" {
		return "ns/op"
	}
	return m.unit
}

// pattern is what -bench takes for the two variants and no others: a regular expression
// for each part of a name, between slashes.
func (m mechanism) pattern() string {
	group, _, ok := strings.Cut(m.ours, "/")
	if !ok {
		return "^Benchmark" + m.benchmark + "$"
	}
	return "^Benchmark" + m.benchmark + "$/^" + group + "$"
}

// A Gain is what a mechanism gains.
type Gain struct {
	Name    string `json:"name"`
	Instead string `json:"in_place_of"`
	Unit    string `json:"unit"`
	Command string `json:"command"`
	// OursMedian and OtherMedian are figures of the two variants. Times is the other's
	// divided by ours, run by run: below 1 the mechanism loses.
	OursMedian  float64 `json:"ours"`
	OtherMedian float64 `json:"other"`
	Times       Spread  `json:"times"`
	Broken      string  `json:"broken,omitempty"`
}

// gainRuns is how often both variants of a mechanism are measured, in turn.
const gainRuns = 5

// MeasureGains measures what each mechanism gains, with the go command in the root of
// this repository. A benchmark that fails is in the result, too.
func MeasureGains(ctx context.Context) (gains []Gain) {
	for _, m := range mechanisms {
		g := Gain{Name: m.name, Instead: m.instead, Unit: m.figure(), Command: fmt.Sprintf("go test -run '^$' -bench '%s' ./%s", m.pattern(), m.pkg)}
		out, err := m.measure(ctx)
		if err == nil {
			err = g.fill(m, out)
		}
		if err != nil {
			g.Broken = err.Error()
		}
		fmt.Println(g)
		gains = append(gains, g)
	}
	return gains
}

// measure runs the mechanism's benchmark and returns what it printed. It starts the
// benchmark anew for each run: go test -count measures one variant several times before
// the other, and the machine drifts meanwhile.
func (m mechanism) measure(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "signetd-bench-gain-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	test := filepath.Join(dir, "test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./"+m.pkg).CombinedOutput(); err != nil { // #nosec G204 -- fixed words
		return nil, fmt.Errorf("go test -c: %w: %.300s", err, bytes.TrimSpace(out))
	}

	var all []byte
	for range gainRuns {
		cmd := exec.CommandContext(ctx, test, "-test.run", "^$", "-test.bench", m.pattern(), "-test.benchtime", "300ms") // #nosec G204 -- our own program
		cmd.Dir = m.pkg
		cmd.Env = append(os.Environ(), "REQUIRE_SOFTHSM=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%w: %.300s", err, bytes.TrimSpace(out))
		}
		all = append(all, out...)
	}
	return all, nil
}

// fill computes the gain from the output of go test.
func (g *Gain) fill(m mechanism, out []byte) error {
	ours, other := figures(out, "Benchmark"+m.benchmark+"/"+m.ours, m.figure()), figures(out, "Benchmark"+m.benchmark+"/"+m.other, m.figure())
	if len(ours) == 0 || len(ours) != len(other) {
		return fmt.Errorf("%d figures of %s and %d of %s", len(ours), m.ours, len(other), m.other)
	}

	var times []float64
	for i := range ours {
		times = append(times, other[i]/ours[i])
	}
	g.OursMedian, g.OtherMedian, g.Times = Median(ours), Median(other), SpreadOf(times)
	return nil
}

// figures finds the figures of a sub-benchmark in the output of go test
// (https://go.dev/design/14313-benchmark-format). go test writes spaces in a name as
// underscores, and appends the number of processors.
func figures(out []byte, name, unit string) (list []float64) {
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		got := fields[0]
		if i := strings.LastIndexByte(got, '-'); i > 0 {
			if _, err := strconv.Atoi(got[i+1:]); err == nil {
				got = got[:i]
			}
		}
		if got != strings.ReplaceAll(name, " ", "_") {
			continue
		}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil && fields[i+1] == unit {
				list = append(list, v)
			}
		}
	}
	return list
}

func (g Gain) String() string {
	if g.Broken != "" {
		return fmt.Sprintf("%s: BROKEN: %s", g.Name, g.Broken)
	}
	return fmt.Sprintf("%s: gain %s beside %s", g.Name, g.Times, g.Instead)
}

// gains is the table of the mechanisms, in Markdown.
func (r Report) gains() []byte {
	if len(r.Gains) == 0 {
		return nil
	}

	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nBoth variants go through the same path, in turn, %d times in one run. Below 1 the mechanism would lose.\n", headGains, gainRuns)
	b.WriteString("\n| mechanism | in the place of | it takes | ours takes | gain | measured by |\n|---|---|---|---|---|---|\n")
	for _, g := range r.Gains {
		if g.Broken != "" {
			fmt.Fprintf(&b, "| %s | %s | failed: %s | | | `%s` |\n", g.Name, g.Instead, cell(g.Broken), g.Command)
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | `%s` |\n", g.Name, g.Instead, amount(g.OtherMedian, g.Unit), amount(g.OursMedian, g.Unit), g.Times, g.Command)
	}
	b.WriteString("\n")
	return b.Bytes()
}

// amount writes a figure with its unit, nanoseconds in what suits them.
func amount(v float64, unit string) string {
	if unit == "ns/op" && v >= 1000 {
		return fmt.Sprintf("%.3g µs", v/1000)
	}
	return fmt.Sprintf("%.3g %s", v, strings.Replace(strings.TrimSuffix(unit, "/op"), "cpu-µs", "µs of CPU", 1))
}

// mechanisms are those that the product has.
var mechanisms = []mechanism{
	{"server: fast path for usual requests", "net/http", "daemon/server", "FastPath", "fast", "net-http", ""},
	{"client: HTTP and shared connections, 64 callers", "net/http", "daemon/client", "Client", "64/http1", "64/net-http", "cpu-µs/op"},
	{"supervised calls on the caller's goroutine", "a goroutine for each call", "backends/pkcs11", "Supervised", "supervised", "own-goroutine", ""},
	{"own calls into the module (for safety: no leak, the PIN as bytes)", "miekg/pkcs11", "backends/pkcs11/cryptoki", "FastCalls", "sign/fast", "sign/binding", ""},
	{"P-256 verification with tables of the key", "crypto/ecdsa", "signer/p256", "VerifyP256", "tables", "stdlib", ""},
	{"protected header that is remembered", "encoding/json", "signer", "ProtectedHeader", "remembered", "written", ""},
	{"index of grants, 20 keys", "a search of all grants", "daemon/policy", "Grants", "index", "scan", ""},
	{"encoder of audit records", "encoding/json", "daemon/audit", "Encode", "own", "encoding-json", ""},
	{"audit records that gather before an fsync", "an fsync as soon as the disk is free", "daemon/server", "Gather", "gathered", "at-once", ""},
	{"metrics that are remembered by their labels", "prometheus' own search", "daemon", "Resolved", "resolved", "searched", ""},
}
