package daemon

import (
	"testing"
	"time"
)

// BenchmarkResolved counts a request: with the metrics that the daemon has resolved for
// its labels before, and with the library's own search for them.
func BenchmarkResolved(b *testing.B) {
	m := NewMetrics("test")
	l := requestLabels{"sign-jwt", "oidc", "ES256", "ok"}
	byLibrary := func(l requestLabels, took time.Duration) {
		m.requests.WithLabelValues(l.op, l.key, l.alg, l.outcome).Inc()
		m.total.WithLabelValues(l.op).Observe(took.Seconds())
	}

	for _, v := range []struct {
		name    string
		observe func(requestLabels, time.Duration)
	}{{"resolved", m.observeRequest}, {"searched", byLibrary}} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.observe(l, time.Millisecond)
			}
		})
	}
}
