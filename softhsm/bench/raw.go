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
)

// A disk is what one writer waits who appends a line and has it on the disk: what a
// client alone waits at least for a record with fsync.
type disk struct {
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	Writes int     `json:"writes"`
}

// recordBytes is about what an audit record has.
const recordBytes = 400

// diskAlone measures the disk that the audit logs are on, for a second.
func (w *world) diskAlone(r *report) (err error) {
	f, err := os.OpenFile(filepath.Join(w.dir, "disk"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line := append(bytes.Repeat([]byte("x"), recordBytes-1), '\n')
	var took []float64
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		start := time.Now()
		if _, err := f.Write(line); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		took = append(took, micros(time.Since(start)))
	}
	slices.Sort(took)
	r.Disk = &disk{P50: took[len(took)/2], P99: took[len(took)*99/100], Writes: len(took)}
	fmt.Printf("disk alone: p50 %.0f µs, p99 %.0f µs for %d bytes and fsync\n", r.Disk.P50, r.Disk.P99, recordBytes)
	return nil
}

// A startUp is how long a daemon takes from its start until /v1/ready says so.
type startUp struct {
	Keys    int       `json:"keys"`
	Objects int       `json:"objects"` // in the token
	Millis  spread    `json:"ms"`
	Each    []float64 `json:"each_ms"`
}

// starts is how often each daemon is started.
const starts = 5

// startUps measures the daemon with ten keys and the one with many.
func (w *world) startUps(r *report) error {
	large, err := w.largeToken()
	if err != nil {
		return err
	}
	for _, s := range []struct {
		hsm     *hsm
		keys    []keySpec
		objects int
	}{{w.small, tenKeys(), 2 * len(tenKeys())}, {large, manyKeys(), largeObjects}} {
		up := startUp{Keys: len(s.keys), Objects: s.objects}
		for range starts {
			d, err := w.serve(s.hsm, "start", "always", s.keys)
			if err != nil {
				return err
			}
			up.Each = append(up.Each, micros(d.ready)/1e3)
			if err := d.end(); err != nil {
				return err
			}
		}
		up.Millis = spreadOf(up.Each)
		r.StartUps = append(r.StartUps, up)
		fmt.Printf("start-up: %d keys, %d objects: %.0f ms\n", up.Keys, up.Objects, up.Millis.Median)
	}
	return nil
}
