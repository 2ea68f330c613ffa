package cloud

import (
	"sync/atomic"
	"time"

	"signetd/signer"
)

// counts are the totals of [Stats].
type counts struct {
	attempts, retries, throttled, limited, unavailable atomic.Uint64
}

// Stats are numbers about a [Caller]. The totals count from when it was made.
type Stats struct {
	// Used is, for each class that has a rate, the share of it that the last second
	// took: 0.5 for half.
	Used map[string]float64

	AttemptsTotal    uint64 // attempts that went out
	RetriesTotal     uint64 // attempts but the first of each call
	ThrottledTotal   uint64 // calls that the service refused because there were too many
	LimitedTotal     uint64 // calls that did not go out: the rate was used up, or the service had just throttled
	UnavailableTotal uint64 // calls given up after the last attempt
}

// Stats returns the numbers as of now.
func (c *Caller) Stats() Stats {
	s := Stats{
		Used: map[string]float64{}, AttemptsTotal: c.counts.attempts.Load(), RetriesTotal: c.counts.retries.Load(),
		ThrottledTotal: c.counts.throttled.Load(), LimitedTotal: c.counts.limited.Load(), UnavailableTotal: c.counts.unavailable.Load(),
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for class, b := range c.buckets {
		if b.rate > 0 {
			s.Used[class] = b.used(now)
		}
	}
	return s
}

// Metrics returns the numbers for [signer.Metered].
func (s Stats) Metrics() []signer.Metric {
	counter := func(name, help string, value uint64) signer.Metric {
		return signer.Metric{Name: "signetd_cloud_" + name, Help: help, Counter: true, Value: float64(value)}
	}
	metrics := []signer.Metric{
		counter("attempts_total", "Calls to the service, those that were tried again too.", s.AttemptsTotal),
		counter("retries_total", "Calls to the service that repeat one that failed.", s.RetriesTotal),
		counter("throttled_total", "Calls that the service refused for their number.", s.ThrottledTotal),
		counter("limited_total", "Operations refused here because the configured rate was used up.", s.LimitedTotal),
		counter("unavailable_total", "Operations given up after the last attempt.", s.UnavailableTotal),
	}

	for class, used := range s.Used {
		metrics = append(metrics, signer.Metric{
			Name: "signetd_cloud_quota_used", Help: "Share of the configured rate that the last second took, by class of operation.",
			Value: used, Label: "class", LabelValue: class,
		})
	}
	return metrics
}
