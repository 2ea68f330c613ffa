package pool

import (
	"testing"
	"testing/synctest"
	"time"

	"signetd/signer/supervise"
)

// A call that panics on its caller's goroutine, where the caller may recover, gives its slot
// back. The next call gets another session.
func TestPoolPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeToken{t: t, queue: 1}
		p := f.pool(1)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was lost")
				}
			}()
			_, _ = Do(supervise.NewContext(time.Hour), p, func(*fakeSession) ([]byte, error) { panic("a bug") })
		}()
		if s := p.Stats(); s.Busy != 0 || f.open.Load() != 0 {
			t.Fatalf("%d sessions open, stats: %+v", f.open.Load(), s)
		}
		if v, err := Do(supervise.NewContext(time.Hour), p, f.takes(0, "next", nil)); err != nil || string(v) != "next" {
			t.Errorf("the next: %q, %v", v, err)
		}
		p.Close()
	})
}
