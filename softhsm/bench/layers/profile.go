//go:build linux && cgo

package layers

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"

	"signetd/daemon/audit"
	"signetd/daemon/server"
	"signetd/softhsm/bench/load"
)

// Serve is the main of a worker that is profiled: the daemon's code on the job's socket.
// signetd itself has no way to profile it. The CPU profile starts with the first line of
// in. The server ends with in, and then writes the profiles.
func Serve(ctx context.Context, j load.Job, in io.Reader, out io.Writer) (err error) {
	t, err := openBackend(ctx, j)
	if err == nil {
		err = t.openService(audit.SyncAlways)
	}
	if err != nil {
		return load.Greet(out, err)
	}
	defer func() { err = errors.Join(err, t.Close()) }()

	l, err := server.ListenUnix(server.SocketConfig{Path: j.Socket, Mode: 0o600, GID: -1})
	if err := load.Greet(out, err); err != nil {
		return err
	}
	srv := server.New(t.service, server.Config{Limits: Limits, Log: slog.New(slog.DiscardHandler)})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }() // ends with Shutdown

	err = profile(j.Dir, bufio.NewScanner(in))
	return errors.Join(err, srv.Shutdown(ctx), <-done)
}

// profile profiles this process from the first line to the end of lines.
func profile(dir string, lines *bufio.Scanner) (err error) {
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
