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
	buildTimeout = time.Minute            // to log in, and open and prove every key
	drainTimeout = 15 * time.Second       // for requests in flight when the daemon stops
	gcPercent    = 300                    // Go has 100
	backlogPause = 100 * time.Millisecond // for connections made just before the socket went away
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the keys of the config until told to stop",
		Long: `serve opens every key of the config file and answers on the Unix socket, or on
the one that systemd hands over. A backend that does not answer takes its own key
versions away and no others: they are opened when it does. SIGHUP and "signet reload" read the config
again: the new one is built and proven beside the running one, and takes over
whole or not at all. SIGTERM and SIGINT end it when the requests in flight
are answered.`,
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

// running is a daemon at work and what it was started with.
type running struct {
	config   *config.File
	settings config.Settings
	hup      chan os.Signal // asks for a reload; nil without a config file
	audit    *audit.Log
	metrics  *daemon.Metrics
	service  *daemon.Service
	log      *slog.Logger
	keys     *keyring.Keyring

	mu sync.Mutex // one reload at a time
}

// serve runs the daemon until ctx ends. started, if not nil, is called when it
// answers.
func serve(ctx context.Context, d *document, started func()) (err error) {
	settings, err := d.Settings()
	if err != nil {
		return err
	}
	addProcs()
	metrics := daemon.NewMetrics(version)
	r := &running{config: d.File, settings: settings, log: settings.Log, metrics: metrics, keys: keyring.New(metrics, settings.Log)}
	if d.Path != "" {
		// From here to the end: by default SIGHUP ends a process, be it starting or
		// answering its last requests.
		r.hup = make(chan os.Signal, 1)
		signal.Notify(r.hup, syscall.SIGHUP)
		defer signal.Stop(r.hup)
	}
	// The log's lock comes before the login: a second daemon by mistake costs no
	// attempt at a PIN.
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

// open opens the backends and keys of d, of which some may be missing. served is the ring
// that is in use now, or nil at start.
func (r *running) open(ctx context.Context, d *document, served *signer.Ring) (daemon.Setup, error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	list, err := d.toOpen()
	if err != nil {
		return daemon.Setup{}, err
	}
	return r.keys.Open(ctx, d.File, list, served)
}

// run listens, serves, and stops in the order that loses no request.
func (r *running) run(ctx context.Context, setup daemon.Setup, started func()) error {
	limits := r.settings.Limits
	config := daemon.Config{Limits: limits, Version: version, Audit: r.audit, Metrics: r.metrics, Log: r.log}
	if r.config.Path != "" {
		config.Reload = r.reloadOnRequest
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

	// What only the start needed goes back to the kernel. After that little is live, and a
	// request leaves a few kilobytes behind: the collector runs a third as often.
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

// stop lets nobody new in, answers who is in, and closes the backends.
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

// listen returns the sockets that systemd handed over, or binds the configured
// one.
func (r *running) listen() ([]net.Listener, error) {
	handed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("socket activation: %w", err)
	}
	for _, l := range handed {
		u, ok := l.(*net.UnixListener)
		if !ok {
			return nil, errors.New("socket activation: a socket that is not a Unix stream socket")
		}
		u.SetUnlinkOnClose(false) // the path is systemd's
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

// notify tells systemd, if it started us, where we are (sd_notify).
func notify(log *slog.Logger, state string) {
	if _, err := sddaemon.SdNotify(false, state); err != nil {
		log.Warn("sd_notify", "err", err)
	}
}

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
