package cloud_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signetd/backends/cloud"
)

// TestRateUnderContention makes many calls at once, on the real clock. However the callers
// overtake each other, no more calls go out than the rate allows.
func TestRateUnderContention(t *testing.T) {
	const perSecond = 2000
	c := cloud.New(cloud.Config{Rates: map[string]int{"rsa": perSecond}, Classify: classify})
	var done atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()

	for range 64 * runtime.NumCPU() {
		wg.Go(func() { // ends after half a second
			for time.Since(begin) < 500*time.Millisecond {
				if c.Do(t.Context(), "rsa", func(context.Context) error { return nil }) == nil {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()

	lasted := time.Since(begin)
	if most := lasted.Seconds()*perSecond + perSecond/10 + perSecond/50 + 1; float64(done.Load()) > most {
		t.Errorf("%d calls went out in %v, want %.0f at most", done.Load(), lasted, most)
	}
}
