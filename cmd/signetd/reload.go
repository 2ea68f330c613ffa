package main

import (
	"context"
	"fmt"
	"os"

	sddaemon "github.com/coreos/go-systemd/v22/daemon"

	"signetd/daemon/policy"
	"signetd/signer"
)

// reload reads the config file again, opens and tries its keys while the old config
// serves, and swaps the two. If anything is wrong with the new config, the old one stays.
// It returns the number of keys.
func (r *running) reload(ctx context.Context) (keys int, err error) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	defer func() {
		r.metrics.ObserveReload(err)
		if err != nil {
			r.log.ErrorContext(ctx, "reload refused, the old config stays", "err", err)
		}
	}()

	// A program that rotates logs renames the file and then asks for a reload.
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

// reloadOnSignal reloads at each SIGHUP until stop is called, and records the signal in the
// audit log with the daemon itself as the peer. stop waits for a reload that has begun,
// until its context ends.
func (r *running) reloadOnSignal(ctx context.Context) (stop func(context.Context)) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() { // ends when stop closes quit
		defer close(done)
		for {
			select {
			case <-r.hup:
				notify(r.log, sddaemon.SdNotifyReloading)
				_, err := r.reload(ctx)
				own := policy.Peer{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(os.Getpid())} // #nosec G115 -- the kernel's own ids
				if err := r.service.RecordSignal(own, err); err != nil {
					r.log.ErrorContext(ctx, "reload not recorded", "err", err)
				}
				notify(r.log, sddaemon.SdNotifyReady)
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
