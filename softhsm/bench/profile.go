//go:build linux && cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"signetd/softhsm/bench/load"
	"signetd/softhsm/bench/report"
)

// profileFor is how long the load lasts while it is watched.
const profileFor = 10 * time.Second

// profile has 64 clients load the daemon's code in a process that profiles itself. It
// writes CPU and allocation profiles into dir, and what takes most of each as text.
func (w *world) profile(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}

	socket := filepath.Join(w.dir, "profiled")
	server, err := w.small.start(load.Job{Kind: "profiled", Key: unverified("ES256"), Alg: "ES256", Unverified: true, Socket: socket, Dir: dir})
	if err != nil {
		return err
	}
	clients, err := load.Start(nil, load.Job{Kind: "signetd", Socket: socket, Key: unverified("ES256"), Alg: "ES256", Op: "jwt", Batch: 1})
	if err != nil {
		return errors.Join(err, server.Stop())
	}

	s, err := clients.Slice(loadClients, time.Second) // warms up
	if err == nil {
		err = server.Tell("start")
	}
	if err == nil {
		s, err = clients.Slice(loadClients, profileFor)
	}
	// The server writes the profiles as it stops.
	if err := errors.Join(err, clients.Stop(), server.Stop()); err != nil {
		return err
	}
	fmt.Printf("profile: %d requests of %d clients in %.1f s, %d failed, load average %s\n", s.Ops, loadClients, s.Seconds, s.Errors, report.LoadAverage())
	return tops(w.ctx, dir)
}

// tops writes and prints the lists of what takes most.
func tops(ctx context.Context, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, top := range []struct {
		name, file string
		args       []string
	}{
		{"cpu-flat", "cpu.pprof", []string{"-flat"}},
		{"cpu-cum", "cpu.pprof", []string{"-cum"}},
		{"allocations-flat", "allocs.pprof", []string{"-flat", "-sample_index=alloc_objects"}},
		{"allocations-cum", "allocs.pprof", []string{"-cum", "-sample_index=alloc_objects"}},
	} {
		args := append([]string{"tool", "pprof", "-top", "-nodecount=25"}, top.args...)
		text, err := exec.CommandContext(ctx, "go", append(args, self, filepath.Join(dir, top.file))...).Output() // #nosec G204 -- fixed words
		if err != nil {
			return fmt.Errorf("go tool pprof %s: %w", top.file, err)
		}
		if err := os.WriteFile(filepath.Join(dir, top.name+".txt"), text, 0o600); err != nil {
			return err
		}
		fmt.Printf("\n%s\n%s", top.name, text)
	}
	return nil
}
