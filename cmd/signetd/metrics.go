package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"signetd/daemon/server"
	"signetd/signer"
)

// metricsListener reads where the metrics are to be found and returns what opens
// that place, or nil if it is nowhere. Metrics name keys, so they are for this
// host alone.
func (d *document) metricsListener() (open func() (net.Listener, error), err error) {
	where := d.Metrics.Listen
	switch {
	case where == "":
		return nil, nil //nolint:nilnil // no listener is a valid setting
	case filepath.IsAbs(where) && len(where) > server.MaxSocketPath:
		return nil, d.at("$.metrics.listen", fmt.Errorf("%w: longer than %d bytes, so that nobody could connect", signer.ErrInvalid, server.MaxSocketPath))
	case filepath.IsAbs(where):
		return func() (net.Listener, error) {
			return server.ListenUnix(server.SocketConfig{Path: where, Mode: 0o660, GID: -1})
		}, nil
	}
	host, _, err := net.SplitHostPort(where)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, d.at("$.metrics.listen", fmt.Errorf("%w: an absolute path, or a loopback address and port such as 127.0.0.1:9464", signer.ErrInvalid))
	}
	return func() (net.Listener, error) { return net.Listen("tcp", where) }, nil
}

// serveMetrics answers GET /metrics on a listener of its own until stop is called.
func (r *running) serveMetrics() (stop func() error, err error) {
	open, err := r.doc.metricsListener()
	if err != nil || open == nil {
		return func() error { return nil }, err
	}
	l, err := open()
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
	go func() { done <- server.Serve(newFewListener(l, metricsConnections)) }() // ends with Close
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

// A fewListener accepts as many connections at once as there are slots. The
// others wait in the kernel.
type fewListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	close  func()
}

func newFewListener(l net.Listener, most int) *fewListener {
	closed := make(chan struct{})
	return &fewListener{l, make(chan struct{}, most), closed, sync.OnceFunc(func() { close(closed) })}
}

// Accept implements [net.Listener].
func (l *fewListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &fewConn{c, sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close implements [net.Listener].
func (l *fewListener) Close() error {
	l.close()
	return l.Listener.Close()
}

type fewConn struct {
	net.Conn
	release func()
}

// Close implements [net.Conn].
func (c *fewConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
