package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"signetd/daemon/server"
)

// metricsConnections bounds the connections to the metrics. Any user of this host may
// open them, and each takes a file descriptor that the daemon's own socket may need.
const metricsConnections = 32

// serveMetrics answers GET /metrics on a listener of its own until stop is called.
func (r *running) serveMetrics() (stop func() error, err error) {
	where := r.settings.Metrics.Listen
	if where == "" {
		return func() error { return nil }, nil
	}

	var l net.Listener
	if filepath.IsAbs(where) {
		l, err = server.ListenUnix(server.SocketConfig{Path: where, Mode: 0o660, GID: -1})
	} else {
		l, err = net.Listen("tcp", where)
	}
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	srv := &http.Server{
		Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelDebug), // mostly mistakes of scrapers
	}

	done := make(chan error, 1)
	go func() { done <- srv.Serve(netutil.LimitListener(l, metricsConnections)) }() // ends with Close
	return func() error {
		err := srv.Close()
		if serr := <-done; !errors.Is(serr, http.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
		return errors.Join(err, closeAll([]net.Listener{l})) // a server.Socket has a path to remove and a lock to release
	}, nil
}
