//go:build !nogcp

package gcpkms_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/signer"
)

// TestRate offers more calls than the service's quota, with a rate and without.
func TestRate(t *testing.T) {
	for _, rate := range []int{0, 300} {
		kms := gcpkmstest.New(t)
		c := plain(kms)
		c.Rate = rate
		b := mustOpen(t, c)
		key, err := b.OpenKey(t.Context(), create(kms, "k", "EC_SIGN_P256_SHA256"))
		if err != nil {
			t.Fatal(err)
		}
		kms.SetQuota(300)
		var signed, refused, slow atomic.Int64
		var running sync.WaitGroup
		for range 2000 { // in two seconds
			running.Go(func() {
				start := time.Now()
				_, err := key.(signer.Signer).SignContext(t.Context(), make([]byte, 32), signer.ES256.SignerOpts())
				switch {
				case err == nil:
					signed.Add(1)
				case errors.Is(err, signer.ErrOverloaded) && signer.RetryAfter(err) > 0:
					refused.Add(1)
					if time.Since(start) > 500*time.Millisecond {
						slow.Add(1)
					}
				default:
					t.Errorf("SignContext() = %v, want a signature or ErrOverloaded", err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		running.Wait()
		s := b.Stats()
		if signed.Load() < 300 || signed.Load()+refused.Load() != 2000 || slow.Load() > 0 {
			t.Errorf("rate %d: %d signed, %d refused, %d of them late", rate, signed.Load(), refused.Load(), slow.Load())
		}
		if rate == 0 && s.ThrottledTotal == 0 || rate != 0 && (s.LimitedTotal == 0 || s.Used["crypto"] == 0) {
			t.Errorf("rate %d: Stats() = %+v", rate, s)
		}
		if err := b.Ping(t.Context()); err != nil {
			t.Errorf("rate %d: Ping() of a service that throttles = %v", rate, err)
		}
		t.Logf("rate %d: %d signed, %d refused: %+v", rate, signed.Load(), refused.Load(), s)
	}
}
