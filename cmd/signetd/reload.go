package main

import (
	"context"
	"fmt"
	"os"

	sddaemon "github.com/coreos/go-systemd/v22/daemon"

	"signetd/daemon/policy"
	"signetd/signer"
)

// reload builds and proves the config of the file beside the running one and
// puts it in its place, or returns why not.
func (r *running) reload(ctx context.Context) (keys int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.metrics.ObserveReload(err) }()
	if err := r.audit.Reopen(); err != nil {
		return 0, err
	}
	d, err := readConfig(r.config.Path)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", signer.ErrInvalid, err)
	}
	if err := d.NeedsRestart(r.config); err != nil {
		return 0, err
	}
	setup, err := r.open(ctx, d, r.service.Ring())
	if err != nil {
		return 0, err
	}
	r.keys.LogFound(ctx, setup.Ring)
	r.service.Swap(setup)
	r.log.InfoContext(ctx, "reloaded", "keys", len(setup.Ring.Keys()), "backends", len(setup.Backends))
	return len(setup.Ring.Keys()), nil
}

// reloadOnRequest is reload for a peer, whose own deadline does not end it half
// way.
func (r *running) reloadOnRequest(ctx context.Context) (int, error) {
	keys, err := r.reload(context.WithoutCancel(ctx))
	if err != nil {
		r.log.ErrorContext(ctx, "reload refused, the old config stays", "err", err)
	}
	return keys, err
}

// reloadOnSignal reloads at each SIGHUP until the function that it returns is
// called, which waits for a reload that has begun, or for its context.
func (r *running) reloadOnSignal(ctx context.Context) (stop func(context.Context)) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() { // ends when stop closes quit
		defer close(done)
		for {
			select {
			case <-r.hup:
				r.reloadAndRecord(ctx)
			case <-quit:
				return
			}
		}
	}()
	return func(ctx context.Context) {
		close(quit)
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

func (r *running) reloadAndRecord(ctx context.Context) {
	notify(r.log, sddaemon.SdNotifyReloading)
	_, err := r.reload(ctx)
	if err != nil {
		r.log.ErrorContext(ctx, "reload refused, the old config stays", "err", err)
	}
	own := policy.Peer{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(os.Getpid())} // #nosec G115 -- the kernel's own ids
	if err := r.service.RecordSignal(own, err); err != nil {
		r.log.ErrorContext(ctx, "reload not recorded", "err", err)
	}
	notify(r.log, sddaemon.SdNotifyReady)
}
