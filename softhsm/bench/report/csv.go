package report

import (
	"bytes"
	"encoding/csv"
	"strconv"
)

// columns are those of performance.csv. A row is a duel.
var columns = []struct {
	name  string
	value func(Duel) any // a string, an int or a float64
}{
	{"alg", func(d Duel) any { return d.Alg }},
	{"case", func(d Duel) any { return d.Case }},
	{"clients", func(d Duel) any { return d.Clients }},
	{"reference", func(d Duel) any { return d.reference() }},
	{"ratio", func(d Duel) any { return d.Ratio.Median }},
	{"ratio_low", func(d Duel) any { return d.Ratio.Low }},
	{"ratio_high", func(d Duel) any { return d.Ratio.High }},
	{"of_limit", func(d Duel) any { return d.OfLimit.Median }},
	{"of_limit_low", func(d Duel) any { return d.OfLimit.Low }},
	{"of_limit_high", func(d Duel) any { return d.OfLimit.High }},
	{"per_second", func(d Duel) any { return d.PerSecond }},
	{"reference_per_second", func(d Duel) any { return d.Reference }},
	{"p50_us", func(d Duel) any { return d.P50 }},
	{"reference_p50_us", func(d Duel) any { return d.RefP50 }},
	{"p99_us", func(d Duel) any { return d.P99 }},
	{"reference_p99_us", func(d Duel) any { return d.RefP99 }},
	{"p99_ratio", func(d Duel) any { return d.P99Ratio.Median }},
	{"reference_cpu_user_us", func(d Duel) any { return d.RefCPU.User }},
	{"reference_cpu_kernel_us", func(d Duel) any { return d.RefCPU.System }},
	{"daemon_cpu_user_us", func(d Duel) any { return d.DaemonCPU.User }},
	{"daemon_cpu_kernel_us", func(d Duel) any { return d.DaemonCPU.System }},
	{"client_cpu_user_us", func(d Duel) any { return d.ClientCPU.User }},
	{"client_cpu_kernel_us", func(d Duel) any { return d.ClientCPU.System }},
	{"daemon_allocations", func(d Duel) any { return d.Mallocs }},
	{"daemon_rss_mib", func(d Duel) any { return d.DaemonRSS }},
	{"least_share", func(d Duel) any { return d.LeastShare }},
	{"failures", func(d Duel) any { return d.Failures }},
	{"reference_failures", func(d Duel) any { return d.RefFailures }},
	{"error", func(d Duel) any { return d.Broken + d.Failure }},
}

// reference names what a duel's case is measured beside.
func (d Duel) reference() string {
	if d.Against != "" {
		return d.Against
	}
	return "token in process"
}

// csv returns all duels, one in a row (RFC 4180). A figure that was not measured is
// empty.
func (r Report) csv() ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)

	var head []string
	for _, c := range columns {
		head = append(head, c.name)
	}
	rows := [][]string{head}

	for _, d := range r.Duels {
		var row []string
		for _, c := range columns {
			text := ""
			switch v := c.value(d).(type) {
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

	err := w.WriteAll(rows)
	return b.Bytes(), err
}
