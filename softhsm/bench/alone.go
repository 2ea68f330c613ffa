//go:build linux && cgo

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"signetd/softhsm"
	"signetd/softhsm/bench/load"
	"signetd/softhsm/bench/report"
)

// alone measures what has no reference. Each part has a name for -run.
func (w *world) alone(r *report.Report, o options) error {
	var failed []error
	for _, m := range []struct {
		name    string
		measure func(*report.Report) error
	}{
		{"disk alone", w.diskAlone},
		{"start-up", w.startUps},
		{"memory", w.memory},
		{"mechanisms", w.mechanisms},
	} {
		if !o.only.MatchString(m.name) || w.ctx.Err() != nil {
			continue
		}
		if err := m.measure(r); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
		}
	}
	if o.soak > 0 && w.ctx.Err() == nil {
		failed = append(failed, w.soak(r, o.soak))
	}
	return errors.Join(failed...)
}

// diskAlone measures the disk that the audit logs are on, for a second.
func (w *world) diskAlone(r *report.Report) (err error) {
	f, err := os.OpenFile(filepath.Join(w.dir, "disk"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	line := append(bytes.Repeat([]byte("x"), report.RecordBytes-1), '\n')
	var took []float64
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		start := time.Now()
		if _, err := f.Write(line); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		took = append(took, load.Micros(time.Since(start)))
	}

	slices.Sort(took)
	r.Disk = &report.Disk{P50: took[len(took)/2], P99: took[len(took)*99/100], Writes: len(took)}
	fmt.Printf("disk alone: p50 %.0f µs, p99 %.0f µs for %d bytes and fsync\n", r.Disk.P50, r.Disk.P99, report.RecordBytes)
	return nil
}

// startUps measures the start of the daemon with ten keys and of the one with many, five
// times each.
func (w *world) startUps(r *report.Report) error {
	large, err := w.largeToken()
	if err != nil {
		return err
	}

	for _, s := range []struct {
		hsm     *hsm
		keys    []keySpec
		objects int
	}{{w.small, tenKeys(), 2 * len(tenKeys())}, {large, manyKeys(), largeObjects}} {
		up := report.StartUp{Keys: len(s.keys), Objects: s.objects}
		for range 5 {
			d, err := w.serve("", s.hsm, "start", "always", s.keys)
			if err != nil {
				return err
			}
			up.Each = append(up.Each, load.Micros(d.ready)/1e3)
			if err := d.end(); err != nil {
				return err
			}
		}
		up.Millis = report.SpreadOf(up.Each)
		r.StartUps = append(r.StartUps, up)
		fmt.Printf("start-up: %d keys, %d objects: %.0f ms\n", up.Keys, up.Objects, up.Millis.Median)
	}
	return nil
}

const (
	settle      = 3 * time.Second // before a daemon is at rest
	underFor    = 3 * time.Second // of load, for the memory under it
	loadClients = 64
)

// memory measures a daemon of its own, which nothing else has used.
func (w *world) memory(r *report.Report) (err error) {
	program, err := w.coldProgram()
	if err != nil {
		return err
	}
	d, err := w.serve(program, w.small, "memory", "always", tenKeys())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	time.Sleep(settle)
	u, err := d.usage()
	if err != nil {
		return err
	}
	m := &report.Memory{AtRest: u.rss}

	clients, err := loadOn(d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clients.Stop()) }()
	for until := time.Now().Add(underFor); time.Now().Before(until); {
		if _, err := clients.Slice(loadClients, 100*time.Millisecond); err != nil {
			return err
		}
		if u, err = d.usage(); err != nil {
			return err
		}
		m.Under = max(m.Under, u.rss)
	}

	r.Memory = m
	fmt.Printf("memory: %.1f MiB at rest, %.1f MiB under %d clients\n", m.AtRest, m.Under, loadClients)
	return nil
}

// coldProgram returns a copy of the daemon's program that is not in the page cache, as on
// a host that has just started. The kernel maps megabytes at a touch of a program that the
// linker has just written, and these count as resident although nothing has used them.
func (w *world) coldProgram() (path string, err error) {
	program, err := softhsm.Signetd()
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(program) // #nosec G304 -- our own program
	if err != nil {
		return "", err
	}

	path = filepath.Join(w.dir, "signetd")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o700) // #nosec G302 G304 -- a program, in our own folder
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()) // #nosec G115 -- a file descriptor
	return path, err
}

// loadOn starts the worker that loads a daemon with ES256.
func loadOn(d *served) (*load.Worker, error) {
	return load.Start(nil, load.Job{Kind: "signetd", Socket: d.socket, Key: verified("ES256"), Alg: "ES256", Op: "jwt", Batch: 1})
}

// soak sends requests to a daemon of its own, 64 at a time. Its audit log is without
// fsync, which has no memory, so that two million requests take minutes and not an hour.
// The log has about a gigabyte then, among the temporary files.
func (w *world) soak(r *report.Report, requests int) (err error) {
	d, err := w.serve("", w.small, "soak", "never", tenKeys())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	clients, err := loadOn(d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clients.Stop()) }()

	s := &report.Soak{First: requests / 10}
	start := time.Now()
	for s.Requests < requests {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		got, err := clients.Slice(loadClients, time.Second)
		if err != nil {
			return err
		}
		if got.Ops == 0 {
			return fmt.Errorf("soak: nothing succeeded: %s", got.Error)
		}
		s.Requests += got.Ops
		s.Failures += got.Errors

		u, err := d.usage()
		if err != nil {
			return err
		}
		if s.FirstMiB == 0 && s.Requests >= s.First {
			s.First, s.FirstMiB = s.Requests, u.rss
			fmt.Printf("soak: %.1f MiB after %d requests\n", u.rss, s.Requests)
		}
		s.MiB = u.rss
	}

	s.PerSecond = float64(s.Requests) / time.Since(start).Seconds()
	r.Soak = s
	fmt.Printf("soak: %.1f MiB after %d requests, %d failed, %.0f a second\n", s.MiB, s.Requests, s.Failures, s.PerSecond)
	return nil
}

// mechanisms measures what each mechanism that is written by hand gains.
func (w *world) mechanisms(r *report.Report) error {
	r.Gains = report.MeasureGains(w.ctx)
	for _, g := range r.Gains {
		if g.Broken != "" {
			return fmt.Errorf("%s: %s", g.Name, g.Broken)
		}
	}
	return nil
}
