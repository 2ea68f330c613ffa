package report

import (
	"bytes"
	"encoding/csv"
	"strconv"
)

// A column is one of performance.csv: its name, and a string, an int or a float64.
type column struct {
	name  string
	value any
}

// columns are those of a duel's row.
func (d Duel) columns() []column {
	reference := d.Against
	if reference == "" {
		reference = "token in process"
	}
	return []column{
		{"alg", d.Alg}, {"case", d.Case}, {"clients", d.Clients}, {"reference", reference},
		{"ratio", d.Ratio.Median}, {"ratio_low", d.Ratio.Low}, {"ratio_high", d.Ratio.High},
		{"of_limit", d.OfLimit.Median}, {"of_limit_low", d.OfLimit.Low}, {"of_limit_high", d.OfLimit.High},
		{"per_second", d.PerSecond}, {"reference_per_second", d.Reference},
		{"p50_us", d.P50}, {"reference_p50_us", d.RefP50}, {"p99_us", d.P99}, {"reference_p99_us", d.RefP99}, {"p99_ratio", d.P99Ratio.Median},
		{"reference_cpu_user_us", d.RefCPU.User}, {"reference_cpu_kernel_us", d.RefCPU.System},
		{"daemon_cpu_user_us", d.DaemonCPU.User}, {"daemon_cpu_kernel_us", d.DaemonCPU.System},
		{"client_cpu_user_us", d.ClientCPU.User}, {"client_cpu_kernel_us", d.ClientCPU.System},
		{"daemon_allocations", d.Mallocs}, {"daemon_rss_mib", d.DaemonRSS}, {"least_share", d.LeastShare},
		{"failures", d.Failures}, {"reference_failures", d.RefFailures}, {"error", d.Broken + d.Failure},
	}
}

// csv returns all duels, one in a row, below the names of the columns (RFC 4180). A figure
// that was not measured is empty.
func (r Report) csv() ([]byte, error) {
	var head []string
	for _, c := range (Duel{}).columns() {
		head = append(head, c.name)
	}
	rows := [][]string{head}

	for _, d := range r.Duels {
		var row []string
		for _, c := range d.columns() {
			text := ""
			switch v := c.value.(type) {
			case string:
				text = v
			case int:
				text = strconv.Itoa(v)
			case float64:
				switch {
				case v >= 1000:
					text = strconv.FormatFloat(v, 'f', 0, 64)
				case v != 0:
					text = strconv.FormatFloat(v, 'g', 4, 64)
				}
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}

	var b bytes.Buffer
	err := csv.NewWriter(&b).WriteAll(rows)
	return b.Bytes(), err
}
