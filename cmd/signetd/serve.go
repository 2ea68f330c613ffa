package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sddaemon "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"signetd/daemon"
	"signetd/daemon/audit"
	"signetd/daemon/config"
	"signetd/daemon/keyring"
	"signetd/daemon/server"
	"signetd/signer"
)

const (
	openTimeout  = time.Minute      // to log in, and to open every key and use it once
	drainTimeout = 15 * time.Second // to answer the requests in flight when the daemon stops

	// A client that connected just before the socket's path was removed is still in the
	// backlog; the daemon accepts connections for this long after that.
	backlogPause = 100 * time.Millisecond

	gcPercent = 300 // Go's default is 100
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the keys of the config until told to stop",
		Long: `serve opens every key of the config file and answers on the Unix socket, or on
the one that systemd hands over. If a backend does not answer, only its own key
versions are missing, and serve opens them once it answers.

SIGHUP and "signet reload" read the config again. serve opens and tries the new
keys while the old config serves; if anything is wrong, the old config stays.
SIGTERM and SIGINT stop the daemon once the requests in flight are answered.`,
		Args: cobra.NoArgs,
	}
	path := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := readConfig(*path)
		if err != nil {
			return err
		}
		return serve(cmd.Context(), d, nil)
	}
	return cmd
}

// running is a daemon at work. Its fields are set before it serves, and never again.
type running struct {
	config   *config.File // that it was started with
	settings config.Settings
	hup      chan os.Signal // asks for a reload; nil without a config file
	audit    *audit.Log
	metrics  *daemon.Metrics
	service  *daemon.Service
	log      *slog.Logger
	keys     *keyring.Keyring

	reloading sync.Mutex // held by a reload, so that only one runs at a time
}

// serve runs the daemon until ctx ends. It calls started, if it is not nil, once the
// daemon answers.
func serve(ctx context.Context, d *document, started func()) (err error) {
	settings, err := d.Settings()
	if err != nil {
		return err
	}
	addProcs()

	metrics := daemon.NewMetrics(version)
	r := &running{config: d.File, settings: settings, log: settings.Log, metrics: metrics, keys: keyring.New(metrics, settings.Log)}

	// The default action of SIGHUP ends the process. It must not do so while the daemon
	// starts or answers its last requests, so the signal is caught from here to the end.
	if d.Path != "" {
		r.hup = make(chan os.Signal, 1)
		signal.Notify(r.hup, syscall.SIGHUP)
		defer signal.Stop(r.hup)
	}

	// The lock on the audit log comes before the login, so that a second daemon that is
	// started by mistake ends here and costs no attempt at a PIN.
	if r.audit, err = audit.Open(settings.Audit.Path, settings.Audit.Sync); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.audit.Close()) }()

	setup, err := r.open(ctx, d, nil)
	if err != nil {
		return err
	}
	return r.run(ctx, setup, started)
}

// open opens the backends and keys of d; some of them may be missing. served is the ring
// that is in use now, or nil at the start.
func (r *running) open(ctx context.Context, d *document, served *signer.Ring) (daemon.Setup, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()

	list, err := d.toOpen()
	if err != nil {
		return daemon.Setup{}, err
	}
	return r.keys.Open(ctx, d.File, list, served)
}

// run listens, serves until ctx ends, and stops. It closes setup.
func (r *running) run(ctx context.Context, setup daemon.Setup, started func()) error {
	limits := r.settings.Limits
	config := daemon.Config{Limits: limits, Version: version, Audit: r.audit, Metrics: r.metrics, Log: r.log}
	if r.config.Path != "" {
		// The peer's deadline does not end the reload: keys that are open by then would
		// have to be closed again.
		config.Reload = func(ctx context.Context) (int, error) { return r.reload(context.WithoutCancel(ctx)) }
	}
	r.service = daemon.NewService(setup, config)
	r.metrics.Registry.MustRegister(statsCollector{r.service}, placesCollector{r.service})

	srv := server.New(r.service, server.Config{Limits: limits, Log: r.log, Registry: r.metrics.Registry})
	sockets, err := r.listen()
	if err != nil {
		return errors.Join(err, r.service.Close(context.WithoutCancel(ctx)))
	}
	stopMetrics, err := r.serveMetrics()
	if err != nil {
		return errors.Join(err, closeAll(sockets), r.service.Close(context.WithoutCancel(ctx)))
	}

	failed := make(chan error, len(sockets))
	for _, l := range sockets {
		go func() { failed <- srv.Serve(l) }() // ends with Shutdown
	}
	stopReloads := r.reloadOnSignal(ctx)
	r.keys.LogFound(ctx, setup.Ring)
	r.log.InfoContext(ctx, "serving", "version", version, "keys", len(setup.Ring.Keys()), "backends", len(setup.Backends), "sockets", addresses(sockets))

	// Give the memory that only the start needed back to the kernel. From now on little is
	// live and a request leaves a few kilobytes of garbage, so the collector may run a
	// third as often.
	debug.SetGCPercent(gcPercent)
	debug.FreeOSMemory()

	notify(r.log, sddaemon.SdNotifyReady)
	if started != nil {
		started()
	}

	select {
	case <-ctx.Done():
	case err = <-failed:
	}

	notify(r.log, sddaemon.SdNotifyStopping)
	r.log.InfoContext(ctx, "stopping: requests in flight are being answered")
	err = errors.Join(err, r.stop(context.WithoutCancel(ctx), srv, sockets, stopReloads), stopMetrics())
	r.log.InfoContext(ctx, "stopped")
	return err
}

// stop answers the requests in flight and closes the backends. The order is such that no
// request is lost: first the socket's path goes, then the backlog is accepted, then
// the server waits for its requests, and only then the backends close.
func (r *running) stop(ctx context.Context, srv *server.Server, sockets []net.Listener, stopReloads func(context.Context)) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()

	stopReloads(ctx)
	var errs []error
	for _, l := range sockets {
		if s, ok := l.(*server.Socket); ok {
			errs = append(errs, s.Unlink())
		}
	}

	time.Sleep(backlogPause)
	errs = append(errs, srv.Shutdown(ctx), r.service.Close(ctx), closeAll(sockets))
	return errors.Join(errs...)
}

// listen returns the sockets that systemd handed over or, if there are none, binds the
// one of the config.
func (r *running) listen() ([]net.Listener, error) {
	handed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("socket activation: %w", err)
	}
	for _, l := range handed {
		u, ok := l.(*net.UnixListener)
		if !ok {
			return nil, errors.New("socket activation: systemd handed over a socket that is not a Unix stream socket")
		}
		u.SetUnlinkOnClose(false) // systemd removes the path
	}
	if len(handed) > 0 {
		return handed, nil
	}

	s, err := server.ListenUnix(r.settings.Socket)
	if err != nil {
		return nil, err
	}
	return []net.Listener{s}, nil
}

// notify tells systemd the daemon's state (sd_notify(3)), if systemd started it.
func notify(log *slog.Logger, state string) {
	if _, err := sddaemon.SdNotify(false, state); err != nil {
		log.Warn("sd_notify", "err", err)
	}
}

// addresses returns where the daemon listens, for the log.
func addresses(sockets []net.Listener) []string {
	var list []string
	for _, l := range sockets {
		if s, ok := l.(*server.Socket); ok {
			list = append(list, s.Path())
			continue
		}
		list = append(list, l.Addr().String())
	}
	return list
}

func closeAll(sockets []net.Listener) error {
	var errs []error
	for _, l := range sockets {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
