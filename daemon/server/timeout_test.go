package server

import (
	"context"
	"net/http"
	"testing"
	"time"

	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/signer/supervise"
)

// TestReloadIsNotTimedOut: a reload that takes longer than other requests may is answered
// and recorded as it ended.
func TestReloadIsNotTimedOut(t *testing.T) {
	var f *fixture
	f = serveWith(t, daemon.Limits{Timeout: 50 * time.Millisecond}, openSoftware(t), func(ctx context.Context) (int, error) {
		<-ctx.Done()
		time.Sleep(2 * supervise.Grace)
		f.server.timeOutOverdue() // as the watchdog does, sooner or later
		time.Sleep(2 * supervise.Grace)
		return 3, nil
	})
	if status, body := f.do(t, "POST", api.ReloadConfig.Path, "{}"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if list := f.records(t); len(list) != 1 || list[0].Outcome != "ok" {
		t.Errorf("records: %+v", list)
	}
}

// TestWatchdogStaysAwake: the watchdog looks again while a connection has a request whose
// work has not begun: the goroutine of that connection found it awake, and did not wake it.
func TestWatchdogStaysAwake(t *testing.T) {
	f := serve(t, daemon.Limits{Timeout: time.Hour})
	c := f.conn(t, me().UID)
	if !f.server.tracker.track(c) {
		t.Fatal("the connection is not served")
	}
	c.state.Store(int32(http.StateActive))
	if !f.server.timeOutOverdue() {
		t.Error("a request has begun, and the watchdog sleeps")
	}
	c.state.Store(int32(http.StateIdle))
	if f.server.timeOutOverdue() {
		t.Error("no connection has a request, and the watchdog is awake")
	}
}
