package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"signetd/daemon"
	"signetd/daemon/config"
)

// TestMetricsConnections: idle connections to the metrics do not keep the daemon from
// ending.
func TestMetricsConnections(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	where := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}

	r := &running{settings: config.Settings{Metrics: config.Metrics{Listen: where}}, metrics: daemon.NewMetrics("test"), log: slog.New(slog.DiscardHandler)}
	stop, err := r.serveMetrics()
	if err != nil {
		t.Fatal(err)
	}

	resp, err := http.Get("http://" + where + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("GET /metrics: status %d, %v", resp.StatusCode, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()

	const many = 2 * metricsConnections
	ended := make(chan struct{}, many)
	for range many {
		c, err := net.Dial("tcp", where)
		if err != nil {
			t.Fatal(err)
		}
		go func() { // ends when the server has closed the connection
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
			ended <- struct{}{}
		}()
	}
	time.Sleep(100 * time.Millisecond) // until the server has as many as it takes

	start := time.Now()
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("stop took %v", took)
	}

	for range many {
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("a connection outlives the server")
		}
	}
}
