package daemon

import (
	"log/slog"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"signetd/daemon/audit"
	"signetd/signer"
)

// Metrics are the daemon's own, in a registry of their own.
type Metrics struct {
	Registry    *prometheus.Registry
	requests    *prometheus.CounterVec
	total       *prometheus.HistogramVec
	queue       prometheus.Histogram
	backend     *prometheus.HistogramVec
	inFlight    prometheus.Gauge
	auditErrors prometheus.Counter
	reloads     *prometheus.CounterVec
	denials     *prometheus.CounterVec
	failovers   *prometheus.CounterVec

	byRequest resolved[requestLabels, requestMetrics]
}

// requestLabels are those of a request that has ended.
type requestLabels struct{ op, key, alg, outcome string }

// requestMetrics are what a request with certain labels is counted in.
type requestMetrics struct {
	count prometheus.Counter
	took  prometheus.Observer
}

// A resolved remembers the metrics of labels. The library would hash and check the labels
// and take a lock each time. They come from the config and from closed sets, so that this
// holds no more than the library does. It is safe for concurrent use.
type resolved[L comparable, M any] struct {
	known atomic.Pointer[map[L]M] // the map is never changed, but replaced
	mu    sync.Mutex              // held to replace known
}

// of returns the metrics of labels, and has resolve find those that are new.
func (r *resolved[L, M]) of(labels L, resolve func(L) M) M {
	if known := r.known.Load(); known != nil {
		if m, ok := (*known)[labels]; ok {
			return m
		}
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	more := map[L]M{}
	if known := r.known.Load(); known != nil {
		maps.Copy(more, *known)
	}

	m := resolve(labels)
	more[labels] = m
	r.known.Store(&more)
	return m
}

// buckets go from 50 µs, a P-256 signature in memory, to the 5 s that a request
// may take.
var buckets = []float64{50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1.6e-3, 3.2e-3, 6.4e-3, 12.8e-3, 25.6e-3, 51.2e-3, 102e-3, 205e-3, 410e-3, 820e-3, 1.64, 5}

// NewMetrics returns metrics for a build of the given version.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signetd_requests_total", Help: "Requests by operation, key, algorithm and outcome. Key and algorithm are empty where no version of a key was chosen.",
		}, []string{"op", "key", "alg", "outcome"}),
		total: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signetd_request_seconds", Help: "Time from the whole request read to the audit record written.", Buckets: buckets,
		}, []string{"op"}),
		queue: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "signetd_queue_seconds", Help: "Time that requests waited for a slot.", Buckets: buckets,
		}),
		backend: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signetd_backend_seconds", Help: "Time of one private-key operation in the backend, the wait for a session included.", Buckets: buckets,
		}, []string{"backend", "use", "outcome"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signetd_requests_in_flight", Help: "Requests that hold a slot.",
		}),
		auditErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signetd_audit_errors_total", Help: "Records that could not be written, so that the answer was withheld.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signetd_reloads_total", Help: "Reloads of the config by outcome.",
		}, []string{"outcome"}),
		denials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signetd_policy_denials_total", Help: "Claims and tokens that a rule refused (mode enforce) or would have refused (mode dry-run).",
		}, []string{"key", "rule", "mode"}),
		failovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signetd_failovers_total", Help: "Attempts that a backend did not serve, so that the request went on to another place or version of the key.",
		}, []string{"key", "backend"}),
	}

	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "signetd_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	info.Set(1)
	m.Registry.MustRegister(m.requests, m.total, m.queue, m.backend, m.inFlight, m.auditErrors, m.reloads, m.denials, m.failovers, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observeRequest counts a request that has ended.
func (m *Metrics) observeRequest(l requestLabels, took time.Duration) {
	r := m.byRequest.of(l, func(l requestLabels) requestMetrics {
		return requestMetrics{m.requests.WithLabelValues(l.op, l.key, l.alg, l.outcome), m.total.WithLabelValues(l.op)}
	})
	r.count.Inc()
	r.took.Observe(took.Seconds())
}

// ObserveBackend returns what [signer.VersionConfig] calls after each use of a
// private key in the named backend.
func (m *Metrics) ObserveBackend(backend string) func(use signer.Use, took time.Duration, err error) {
	type labels struct {
		use     signer.Use
		outcome string
	}
	var by resolved[labels, prometheus.Observer]
	return func(use signer.Use, took time.Duration, err error) {
		by.of(labels{use, signer.Code(err)}, func(l labels) prometheus.Observer {
			return m.backend.WithLabelValues(backend, string(l.use), l.outcome)
		}).Observe(took.Seconds())
	}
}

// observePolicy counts what a rule refused, or in dry-run would have refused.
func (m *Metrics) observePolicy(key string, rec *audit.Record) {
	if rec.Rule != "" {
		m.denials.WithLabelValues(key, rec.Rule, "enforce").Inc()
	}
	for _, d := range rec.WouldDeny {
		m.denials.WithLabelValues(key, d.Rule, "dry-run").Inc()
	}
}

// ObserveReload counts a reload.
func (m *Metrics) ObserveReload(err error) {
	m.reloads.WithLabelValues(signer.Code(err)).Inc()
}

// ObserveFailover counts a request that left a backend for another one.
func (m *Metrics) ObserveFailover(key, backend string) {
	m.failovers.WithLabelValues(key, backend).Inc()
}

// outages tracks the keys that cannot be served, so that the log has one line when that
// begins, with what to do about it, and one when it ends. The audit log has the reason of
// each request, but it is not the first place where an operator looks. The zero value has
// no outage. It is safe for concurrent use.
type outages struct {
	n    atomic.Int32 // of keys that are away, so that requests take no lock while all is well
	mu   sync.Mutex   // guards keys
	keys map[string]*signer.Presence
}

// track logs it if a record begins or ends an outage.
func (o *outages) track(logger *slog.Logger, rec *audit.Record, outcome error) {
	lost := rec.Outcome == signer.Code(signer.ErrUnavailable)
	switch {
	case rec.KID == "":
		return // a name that a peer made up is no key
	case !lost && outcome != nil:
		return // what is the peer's own fault says nothing of a backend
	case !lost && o.n.Load() == 0:
		return
	}

	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.keys[rec.Key]
	if p == nil {
		if o.keys == nil {
			o.keys = map[string]*signer.Presence{}
		}
		p = new(signer.Presence)
		o.keys[rec.Key] = p
	}

	if lost {
		if p.Lost() {
			o.n.Add(1)
			logger.Warn("key unavailable", "key", rec.Key, "kid", rec.KID, "err", outcome)
		}
		return
	}
	if after, news := p.Found(); news {
		o.n.Add(-1)
		logger.Info("key available again", "key", rec.Key, "kid", rec.KID, "after", after.Round(time.Millisecond))
	}
}
