//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// daemon returns a daemon, which is started at the first call.
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
	d, err := w.serve(h, fmt.Sprint("daemon", kind), sync, keys)
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
	ready   time.Duration // from its start to /v1/ready saying so
}

//go:embed config.yaml.tmpl
var configText string

var configTemplate = template.Must(template.New("config").Parse(configText))

// serve starts a daemon and waits until it is ready.
func (w *world) serve(h *hsm, name, sync string, keys []keySpec) (*served, error) {
	bin, err := softhsm.Signetd()
	if err != nil {
		return nil, err
	}
	return w.serveProgram(bin, h, name, sync, keys)
}

// serveProgram is serve with a program that was built before.
func (w *world) serveProgram(bin string, h *hsm, name, sync string, keys []keySpec) (*served, error) {
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
	d.cmd = exec.CommandContext(w.ctx, bin, "serve", "--config", path("config.yaml")) // #nosec G204 -- our own program
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

// startTimeout is far more than any start takes.
const startTimeout = 30 * time.Second

// await asks the daemon again and again whether it is ready.
func (d *served) await(ctx context.Context) error {
	c := client.New(client.Config{Socket: d.socket})
	defer c.Close() //nolint:errcheck // it gives nil
	for until := time.Now().Add(startTimeout); ; time.Sleep(200 * time.Microsecond) {
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
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(err, d.cmd.Wait())
	}
	return d.cmd.Wait()
}
