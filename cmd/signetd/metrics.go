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
	server := &http.Server{
		Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelDebug), // what scrapers do wrong, mostly
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(netutil.LimitListener(l, metricsConnections)) }() // ends with Close
	return func() error {
		err := server.Close()
		if serr := <-done; !errors.Is(serr, http.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
		return errors.Join(err, closeAll([]net.Listener{l})) // a Socket has a path and a lock to let go of
	}, nil
}

// metricsConnections bounds the connections to the metrics, which any user of
// this host may open: each takes a file descriptor, and the socket needs them, too.
const metricsConnections = 32
