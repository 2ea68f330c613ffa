package main

import (
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"signetd/signer"
)

// backendsByName are the backends of a service.
type backendsByName map[string]signer.Backend

func (b backendsByName) EachBackend(f func(name string, b signer.Backend)) {
	for name, backend := range b {
		f(name, backend)
	}
}

// A fakeKMS is a backend of a kind that no other code knows.
type fakeKMS struct{ signer.Backend }

// Metrics implements [signer.Metered].
func (fakeKMS) Metrics() []signer.Metric {
	return []signer.Metric{
		{Name: "signetd_fake_commands_total", Help: "Commands sent.", Counter: true, Value: 3},
		{Name: "signetd_fake_handles", Help: "Handles in use.", Value: 1, Label: "hierarchy", LabelValue: "owner"},
		{Name: "signetd_fake_handles", Help: "Handles in use.", Value: 2, Label: "hierarchy", LabelValue: "platform"},
	}
}

// noMetrics is a backend that has metrics, but not yet.
type noMetrics struct{ signer.Backend }

// Metrics implements [signer.Metered].
func (noMetrics) Metrics() []signer.Metric { return nil }

// TestBackendMetrics reads the metrics of backends, whatever kind they are: one that
// has some, one that has none yet, and one that never has any.
func TestBackendMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(statsCollector{backendsByName{
		"chip": fakeKMS{}, "away": noMetrics{}, "mute": struct{ signer.Backend }{},
	}})

	const want = `# HELP signetd_fake_commands_total Commands sent.
# TYPE signetd_fake_commands_total counter
signetd_fake_commands_total{backend="chip"} 3
# HELP signetd_fake_handles Handles in use.
# TYPE signetd_fake_handles gauge
signetd_fake_handles{backend="chip",hierarchy="owner"} 1
signetd_fake_handles{backend="chip",hierarchy="platform"} 2
`
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if got := page.Body.String(); got != want {
		t.Errorf("metrics are\n%s\nwant\n%s", got, want)
	}
}
