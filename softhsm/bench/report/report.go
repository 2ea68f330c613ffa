// Package report has what a run of the bench measured, judges it, and writes it down.
package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Names of cases that floors, lines and tables refer to.
const (
	Verified   = "signetd jwt/sign"
	Unverified = "signetd jwt/sign, verify off"
	Decrypt    = "signetd jwe/decrypt"
	Limit      = "bare socket in C (the limit)"
	Backend    = "backend alone"
	Service    = "daemon without its socket, verify off, fsync off"
	Crypto11   = "crypto11"
	P11Kit     = "p11-kit server"
	Tool       = "one process an operation (pkcs11-tool)"
	ToTool     = "signetd jwt/sign, verify off, beside one process after the other (pkcs11-tool)"
	ToItself   = "signetd jwt/sign, verify off, beside itself with 64 clients"
	Large      = "signetd jwt/sign, verify off, with 200 keys and 1,000 objects, beside 10 keys"

	VerifyOff = ", verify off"
	NoSync    = ", fsync off"
)

// Batches is what the name of a case ends with if its requests have so many items.
func Batches(size int) string {
	if size == 1 {
		return ""
	}
	return fmt.Sprintf(", batches of %d", size)
}

// SignAlgs are the algorithms whose signatures are measured, and OAEP the one that
// decrypts.
var SignAlgs = []string{"ES256", "RS256", "PS256", "EdDSA"}

// OAEP is the algorithm whose decryptions are measured.
const OAEP = "RSA-OAEP-256"

// Few are the numbers of clients with which every case is measured, and Many those of
// the cases that are plotted.
var (
	Few  = []int{1, 8, 64}
	Many = []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000}
)

// A Report is what a run measured.
type Report struct {
	Date        string    `json:"date"`
	Machine     string    `json:"machine"`
	LoadBefore  string    `json:"load_average_before"`
	LoadAfter   string    `json:"load_average_after"`
	Pairs       int       `json:"pairs"`
	SliceMillis int       `json:"slice_ms"`
	Duels       []Duel    `json:"duels"`
	Disk        *Disk     `json:"disk_alone,omitempty"`
	StartUps    []StartUp `json:"start_ups,omitempty"`
	Memory      *Memory   `json:"memory,omitempty"`
	Soak        *Soak     `json:"soak,omitempty"`
	Gains       []Gain    `json:"gains,omitempty"`
}

// A Duel is a case beside its reference.
type Duel struct {
	Alg     string `json:"alg"`
	Case    string `json:"case"`
	Clients int    `json:"clients"`
	// Against names the reference if it is not the token in process.
	Against string `json:"against,omitempty"`

	// Ratio is the throughput of the case divided by the reference's, OfLimit the same
	// divided by that of the bare socket in C, and P99Ratio the p99 of a call divided by
	// the reference's. Each is made of the ratios of the pairs. OfLimit is zero where the
	// limit was not measured.
	Ratio    Spread `json:"ratio"`
	OfLimit  Spread `json:"of_limit,omitzero"`
	P99Ratio Spread `json:"p99_ratio"`

	// These are medians of the pairs. Times are of a call.
	Reference float64 `json:"reference_per_second"`
	PerSecond float64 `json:"per_second"`
	RefP50    float64 `json:"reference_p50_us"`
	P50       float64 `json:"p50_us"`
	RefP99    float64 `json:"reference_p99_us"`
	P99       float64 `json:"p99_us"`

	// These are of an operation, over all pairs together: the kernel counts processor time
	// in hundredths of a second, too coarse for one pair. DaemonCPU includes the token's
	// work.
	RefCPU    CPU     `json:"reference_cpu_us"`
	ClientCPU CPU     `json:"client_cpu_us"`
	DaemonCPU CPU     `json:"daemon_cpu_us,omitzero"`
	Mallocs   float64 `json:"daemon_allocations,omitempty"`
	DaemonRSS float64 `json:"daemon_rss_mib,omitempty"` // after the last pair

	// LeastShare is the number of operations of the slowest client, as a part of the mean.
	LeastShare float64 `json:"least_share"`
	Failures   int     `json:"failures,omitempty"`
	Failure    string  `json:"failure,omitempty"` // the last one
	// RefFailures are those of the reference. pkcs11-tool has some: the login of one
	// process disturbs the next.
	RefFailures int `json:"reference_failures,omitempty"`
	// Broken says why the case could not be measured. There are no figures then.
	Broken string `json:"broken,omitempty"`
}

// CPU is processor time in µs.
type CPU struct {
	User   float64 `json:"user"`
	System float64 `json:"system"`
}

func (c CPU) total() float64 { return c.User + c.System }

func (c CPU) String() string { return fmt.Sprintf("%.0f+%.0f", c.User, c.System) }

func (d Duel) String() string {
	s := fmt.Sprintf("%-12s %-48s %4d clients: ", d.Alg, d.Case, d.Clients)
	if d.Broken != "" {
		return s + "BROKEN: " + d.Broken
	}

	s += fmt.Sprintf("ratio %s", d.Ratio)
	if d.OfLimit.Median > 0 {
		s += fmt.Sprintf(", of the limit %.2f", d.OfLimit.Median)
	}
	s += fmt.Sprintf(", p50 %.0f/%.0f µs, p99 %.1f/%.1f ms", d.P50, d.RefP50, d.P99/1e3, d.RefP99/1e3)
	if d.DaemonCPU.total() > 0 {
		s += fmt.Sprintf(", CPU µs %s/%s, client %s, %.0f allocations, %.0f MiB", d.DaemonCPU, d.RefCPU, d.ClientCPU, d.Mallocs, d.DaemonRSS)
	}
	if d.Failures > 0 {
		s += fmt.Sprintf(", %d FAILED: %s", d.Failures, d.Failure)
	}
	return s
}

// RecordBytes is about the length of an audit record.
const RecordBytes = 400

// A Disk is how long one writer waits that appends RecordBytes and calls fsync: the
// least that a client alone waits for its record.
type Disk struct {
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	Writes int     `json:"writes"`
}

// Numbers of keys of the daemons whose start is measured.
const (
	SmallKeys = 10
	LargeKeys = 200
)

// A StartUp is how long a daemon takes from its start until /v1/ready says so.
type StartUp struct {
	Keys    int       `json:"keys"`
	Objects int       `json:"objects"` // in the token
	Millis  Spread    `json:"ms"`
	Each    []float64 `json:"each_ms"`
}

// A Memory is the resident memory of a daemon with ten keys, in MiB.
type Memory struct {
	AtRest float64 `json:"at_rest_mib"`
	Under  float64 `json:"under_64_clients_mib"` // the most that was seen
}

// A Soak is the resident memory after many requests and after ten times as many.
type Soak struct {
	First     int     `json:"first_requests"`
	Requests  int     `json:"requests"`
	FirstMiB  float64 `json:"first_mib"`
	MiB       float64 `json:"mib"`
	Failures  int     `json:"failures"`
	PerSecond float64 `json:"per_second"`
}

// find returns the duel of a case, or nil if it was not measured.
func (r Report) find(alg, name string, clients int) *Duel {
	for i, d := range r.Duels {
		if d.Alg == alg && d.Case == name && d.Clients == clients {
			return &r.Duels[i]
		}
	}
	return nil
}

// usable reports whether there are figures.
func (d *Duel) usable() bool { return d != nil && d.Broken == "" }

// addedP50 is what half of the calls wait more than in process, in µs.
func (d *Duel) addedP50() float64 { return d.P50 - d.RefP50 }

// Machine says in a line what the figures were made on.
func Machine() string {
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

// LoadAverage returns the load average of the last minute.
func LoadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(data), " ")
	return one
}

// Read reads a report that Write wrote.
func Read(name string) (r Report, err error) {
	text, err := os.ReadFile(name) // #nosec G304 -- the user names the file
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// Write writes the report into dir: performance.json, performance.md, performance.csv
// and the plots.
func (r Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		save(filepath.Join(dir, "performance.json"), append(text, '\n')),
		save(filepath.Join(dir, "performance.md"), r.markdown()),
		r.writeBeside(filepath.Join(dir, "performance.md")))
}

// writeBeside writes the rows and the plots that belong to a Markdown file.
func (r Report) writeBeside(name string) error {
	rows, err := r.csv()
	if err != nil {
		return err
	}
	throughput := plot("ES256: signatures a second by clients", "1/s", r.curves(func(d Duel) (float64, float64) { return d.Reference, d.PerSecond }))
	p99 := plot("ES256: p99 of a call by clients", "ms", r.curves(func(d Duel) (float64, float64) { return d.RefP99 / 1e3, d.P99 / 1e3 }))

	dir := filepath.Dir(name)
	return errors.Join(
		save(strings.TrimSuffix(name, filepath.Ext(name))+".csv", rows),
		save(filepath.Join(dir, throughputPlot), throughput),
		save(filepath.Join(dir, p99Plot), p99))
}

func save(name string, text []byte) error {
	return os.WriteFile(name, text, 0o644) // #nosec G306 G703 -- a document, where the user wants it
}
