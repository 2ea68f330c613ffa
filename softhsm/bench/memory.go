//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"signetd/softhsm"
)

// A memory is what of a daemon with ten keys is resident, in MiB.
type memory struct {
	AtRest float64 `json:"at_rest_mib"`
	Under  float64 `json:"under_64_clients_mib"` // the most that was seen
}

// A soak is the same after many requests and after ten times as many.
type soak struct {
	First     int     `json:"first_requests"`
	Requests  int     `json:"requests"`
	FirstMiB  float64 `json:"first_mib"`
	MiB       float64 `json:"mib"`
	Failures  int     `json:"failures"`
	PerSecond float64 `json:"per_second"`
}

const (
	settle      = 3 * time.Second // before a daemon is at rest
	underFor    = 3 * time.Second // of load, for the memory under it
	loadClients = 64
)

// memory measures a daemon of its own, that nothing else has used.
func (w *world) memory(r *report) (err error) {
	bin, err := w.coldProgram()
	if err != nil {
		return err
	}
	d, err := w.serveProgram(bin, w.small, "memory", "always", tenKeys())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	time.Sleep(settle)
	u, err := d.usage()
	if err != nil {
		return err
	}
	m := &memory{AtRest: u.rss}
	load, err := loadOn(d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.stop()) }()
	for until := time.Now().Add(underFor); time.Now().Before(until); {
		if _, err := load.slice(loadClients, 100*time.Millisecond); err != nil {
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

// coldProgram is a copy of the daemon's program that is not in the page cache, as on a
// host that has booted. Of one that the linker has just written the kernel maps
// megabytes at a touch, which are then resident without ever having been used.
func (w *world) coldProgram() (path string, err error) {
	bin, err := softhsm.Signetd()
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(bin) // #nosec G304 -- our own program
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
func loadOn(d *served) (*worker, error) {
	return startWorker(nil, job{Kind: "signetd", Socket: d.socket, Key: verified("ES256"), Alg: "ES256", Op: "jwt", Batch: 1})
}

// soak sends requests to a daemon of its own, 64 at a time. The audit log is without
// fsync, which has no memory, so that it takes minutes and not an hour. It has about a
// gigabyte after two million requests, among the temporary files.
func (w *world) soak(r *report, requests int) (err error) {
	d, err := w.serve(w.small, "soak", "never", tenKeys())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	load, err := loadOn(d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.stop()) }()
	s := &soak{First: requests / 10}
	start := time.Now()
	for s.Requests < requests {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		got, err := load.slice(loadClients, time.Second)
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
