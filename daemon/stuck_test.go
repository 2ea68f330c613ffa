package daemon

import (
	"context"
	"net/http"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/policy"
)

// TestReloadIsNotAbandoned: a reload that takes longer than other requests may is
// answered, and recorded, as what it came to.
func TestReloadIsNotAbandoned(t *testing.T) {
	f := serve(t, Limits{Timeout: 50 * time.Millisecond})
	uid := me().UID
	p, err := policy.New(nil, []policy.Grant{{Peer: policy.Match{UID: &uid}, Ops: []api.Op{api.OpReload}}})
	if err != nil {
		t.Fatal(err)
	}
	f.setup.Policy, f.setup.Backends = p, nil
	f.service.Swap(f.setup)
	f.server.reload = func(ctx context.Context) (int, error) {
		<-ctx.Done()
		time.Sleep(2 * grace)
		f.server.endStuck() // as it does by itself, sooner or later
		time.Sleep(2 * grace)
		return 3, nil
	}
	if status, body := f.do(t, "POST", api.ReloadConfig.Path, "{}"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if list := f.records(t); len(list) != 1 || list[0].Outcome != "ok" {
		t.Errorf("records: %+v", list)
	}
}

// TestWatchGoesOn: who looks for stuck calls looks again while a connection has a request
// whose call has not begun. Its goroutine found that somebody watches, and starts nobody.
func TestWatchGoesOn(t *testing.T) {
	f := serve(t, Limits{Timeout: time.Hour})
	c := f.conn(t, me().UID)
	if !f.server.admit(c) {
		t.Fatal("not admitted")
	}
	f.server.watching.Store(true)
	c.state.Store(int32(http.StateActive))
	if f.server.endStuck(); !f.server.watching.Load() {
		t.Error("a request has begun, and nobody watches")
	}
	c.state.Store(int32(http.StateIdle))
	f.server.watching.Store(true)
	if f.server.endStuck(); f.server.watching.Load() {
		t.Error("nobody asks anything, and somebody watches")
	}
}
