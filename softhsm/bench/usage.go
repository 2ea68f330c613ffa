//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// A usage is what a process has used since its start.
type usage struct {
	user, system float64 // µs on a processor; the kernel counts in hundredths of a second
	rss          float64 // MiB that are resident
}

// usage asks the kernel.
func (d *served) usage() (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		return usage{}, err
	}
	return parseStat(stat)
}

// parseStat reads a /proc/PID/stat (proc(5)).
func parseStat(stat []byte) (u usage, err error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // state is the third
	for i, to := range map[int]*float64{14: &u.user, 15: &u.system, 24: &u.rss} {
		if len(fields) <= i-3 {
			return u, fmt.Errorf("%d fields in /proc/PID/stat", len(fields))
		}
		if *to, err = strconv.ParseFloat(fields[i-3], 64); err != nil {
			return u, err
		}
	}
	const tick = 1e6 / 100 // µs
	u.user, u.system, u.rss = u.user*tick, u.system*tick, u.rss*float64(os.Getpagesize())/(1<<20)
	return u, nil
}

// mallocs asks the daemon's metrics how many objects it has allocated since its start.
// To answer takes some thousand, too.
func (d *served) mallocs(ctx context.Context) (float64, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.metrics)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://metrics/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	return parseMallocs(string(text))
}

// parseMallocs finds the number in Prometheus' text format.
func parseMallocs(metrics string) (float64, error) {
	for line := range strings.Lines(metrics) {
		if v, ok := strings.CutPrefix(line, "go_memstats_mallocs_total "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, errors.New("no go_memstats_mallocs_total in the metrics")
}
