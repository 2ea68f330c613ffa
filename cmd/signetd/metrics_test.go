package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"signetd/daemon"
)

// TestFewListener: no more connections are accepted than there are slots, until
// one of them has ended.
func TestFewListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newFewListener(inner, 2)
	accepted := make(chan net.Conn)
	go func() { // ends with l
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	for range 4 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Fatal("a third connection is accepted with two slots")
	case <-time.After(100 * time.Millisecond):
	}
	for range 2 { // to close twice frees one slot
		_ = first.Close()
	}
	third := <-accepted
	select {
	case <-accepted:
		t.Fatal("a fourth connection is accepted when one has ended")
	case <-time.After(100 * time.Millisecond):
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range []net.Conn{second, third} {
		_ = c.Close()
	}
	for c := range accepted { // the fourth may have come in before
		_ = c.Close()
	}
}

// TestMetricsConnections: whoever opens connections to the metrics and sends
// nothing does not keep the daemon from ending.
func TestMetricsConnections(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	where := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := parseConfig("c", []byte("metrics: {listen: \""+where+"\"}"))
	if err != nil {
		t.Fatal(err)
	}
	r := &running{doc: d, metrics: daemon.NewMetrics("test"), log: slog.New(slog.DiscardHandler)}
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
	time.Sleep(100 * time.Millisecond) // for the server to be full
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
