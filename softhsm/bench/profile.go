//go:build linux && cgo

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"time"

	"signetd/daemon/audit"
	"signetd/daemon/server"
)

// profileFor is how long the load lasts while it is watched.
const profileFor = 10 * time.Second

// profile has the daemon's code serve 64 clients of another process, in a process of
// ours: the daemon itself has no way to profile it. It writes CPU and allocation
// profiles into dir, and what takes most of each as text.
func (w *world) profile(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	socket := filepath.Join(w.dir, "profiled")
	server, err := w.small.start(job{Kind: "server", Key: unverified("ES256"), Alg: "ES256", Layer: "backend", Socket: socket, Dir: dir})
	if err != nil {
		return err
	}
	clients, err := startWorker(nil, job{Kind: "signetd", Socket: socket, Key: unverified("ES256"), Alg: "ES256", Op: "jwt", Batch: 1})
	if err != nil {
		return errors.Join(err, server.stop())
	}
	s, err := clients.slice(loadClients, time.Second) // warms up
	if err == nil {
		_, err = fmt.Fprintln(server.in, "start")
	}
	if err == nil {
		s, err = clients.slice(loadClients, profileFor)
	}
	if err := errors.Join(err, clients.stop(), server.stop()); err != nil { // the server writes the profiles as it stops
		return err
	}
	fmt.Printf("profile: %d requests of %d clients in %.1f s, %d failed, load average %s\n", s.Ops, loadClients, s.Seconds, s.Errors, load())
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

// runServer is the main of the worker that is profiled: a server.Server on the job's
// socket. The CPU profile begins with the first line of in, and all end with in.
func runServer(ctx context.Context, j job, in io.Reader, out *os.File) (err error) {
	t, err := newLayerTarget(ctx, j)
	if err == nil {
		err = t.serve(audit.SyncAlways)
	}
	if err != nil {
		return greet(out, err)
	}
	defer func() { err = errors.Join(err, t.close()) }()
	l, err := server.ListenUnix(server.SocketConfig{Path: j.Socket, Mode: 0o600, GID: -1})
	if err := greet(out, err); err != nil {
		return err
	}
	srv := server.New(t.service, server.Config{Limits: serviceLimits, Log: slog.New(slog.DiscardHandler)})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }() // ends with Shutdown
	err = profiles(j.Dir, bufio.NewScanner(in))
	return errors.Join(err, srv.Shutdown(ctx), <-done)
}

// profiles profiles this process from the first line to the end of lines.
func profiles(dir string, lines *bufio.Scanner) (err error) {
	if !lines.Scan() {
		return errors.New("told to stop before there was anything to profile")
	}
	file, err := os.Create(filepath.Join(dir, "cpu.pprof")) // #nosec G304 -- the user names the folder
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(err, file.Close())
	}
	for lines.Scan() {
	}
	pprof.StopCPUProfile()
	if err := file.Close(); err != nil {
		return err
	}
	if file, err = os.Create(filepath.Join(dir, "allocs.pprof")); err != nil { // #nosec G304 -- see above
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(file, 0), file.Close())
}
