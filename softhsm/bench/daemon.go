//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"signetd/daemon/client"
	"signetd/softhsm"
)

// A daemonKind is one of the daemons of a world.
type daemonKind int

const (
	daemonNone   daemonKind = iota
	daemonSync              // ten keys, each record on the disk before its answer, as by default
	daemonNoSync            // the same without fsync
	daemonLarge             // 200 keys, and 1,000 objects in the token
)

// daemon returns a daemon, which it starts once.
func (w *world) daemon(kind daemonKind) (*served, error) {
	if d := w.daemons[kind]; d != nil {
		return d, nil
	}

	h, err := w.small, error(nil)
	keys, sync := tenKeys(), "always"
	switch kind {
	case daemonNoSync:
		sync = "never"
	case daemonLarge:
		keys = manyKeys()
		h, err = w.largeToken()
	case daemonSync, daemonNone:
	}
	if err != nil {
		return nil, err
	}

	d, err := w.serve("", h, fmt.Sprint("daemon", kind), sync, keys)
	if err == nil {
		w.daemons[kind] = d
	}
	return d, err
}

// A served is a signetd that runs.
type served struct {
	cmd     *exec.Cmd
	socket  string
	metrics string // socket
	stderr  bytes.Buffer
	ready   time.Duration // from its start until /v1/ready said so
}

//go:embed config.yaml.tmpl
var configText string

var configTemplate = template.Must(template.New("config").Parse(configText))

// serve starts a daemon and waits until it is ready. program is its path; signetd is
// built if it is "".
func (w *world) serve(program string, h *hsm, name, sync string, keys []keySpec) (*served, error) {
	if program == "" {
		var err error
		if program, err = softhsm.Signetd(); err != nil {
			return nil, err
		}
	}

	path := func(file string) string { return filepath.Join(w.dir, name+"-"+file) }
	d := &served{socket: path("socket"), metrics: path("metrics")}
	var config bytes.Buffer
	if err := configTemplate.Execute(&config, map[string]any{
		"Socket": d.socket, "Metrics": d.metrics, "Audit": path("audit.jsonl"), "Sync": sync, "UID": os.Getuid(),
		"Module": h.Module(), "Token": h.Label(), "PINFile": h.PINFile(), "Keys": keys,
	}); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path("config.yaml"), config.Bytes(), 0o600); err != nil {
		return nil, err
	}

	d.cmd = exec.CommandContext(w.ctx, program, "serve", "--config", path("config.yaml")) // #nosec G204 -- our own program
	d.cmd.Env = append(os.Environ(), h.env()...)
	d.cmd.Stderr = &d.stderr
	start := time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	if err := d.await(w.ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("signetd: %w: %s", err, bytes.TrimSpace(d.stderr.Bytes())), d.end())
	}
	d.ready = time.Since(start)
	return d, nil
}

// await asks the daemon again and again whether it is ready.
func (d *served) await(ctx context.Context) error {
	c := client.New(client.Config{Socket: d.socket})
	defer c.Close() //nolint:errcheck // it gives nil

	const timeout = 30 * time.Second // far more than any start takes
	for until := time.Now().Add(timeout); ; time.Sleep(200 * time.Microsecond) {
		ready, err := c.Ready(ctx)
		if err == nil && ready.Ready {
			return nil
		}
		if time.Now().After(until) || ctx.Err() != nil {
			return errors.Join(errors.New("not ready"), err, ctx.Err())
		}
	}
}

// end stops the daemon as an operator does, and waits for it.
func (d *served) end() error {
	err := d.cmd.Process.Signal(syscall.SIGTERM)
	return errors.Join(err, d.cmd.Wait())
}

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
