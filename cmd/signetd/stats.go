package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"signetd/backends/cloud"
	"signetd/backends/pkcs11"
	"signetd/daemon"
	"signetd/signer"
)

// A statsCollector makes metrics of what the backends in use say of themselves. After a reload they are new ones, and count from zero.
type statsCollector struct{ service *daemon.Service }

// A stat is one of the metrics of backends whose Stats are an S, with the backend's
// name as its label.
type stat[S any] struct {
	desc  *prometheus.Desc
	typ   prometheus.ValueType
	value func(S) float64
}

var pkcs11Stats = []stat[pkcs11.Stats]{
	gauge("signetd_pkcs11_sessions", "Sessions that may be open.", func(s pkcs11.Stats) float64 { return float64(s.Sessions) }),
	gauge("signetd_pkcs11_sessions_busy", "Sessions that an operation runs on.", func(s pkcs11.Stats) float64 { return float64(s.Busy) }),
	gauge("signetd_pkcs11_waiting", "Operations that wait for a session.", func(s pkcs11.Stats) float64 { return float64(s.Waiting) }),
	gauge("signetd_pkcs11_abandoned", "Operations that still run although who asked has left.", func(s pkcs11.Stats) float64 { return float64(s.Abandoned) }),
	gauge("signetd_pkcs11_down", "1 while the token is gone and every operation is refused.", func(s pkcs11.Stats) float64 {
		if s.Down {
			return 1
		}
		return 0
	}),
	counter("signetd_pkcs11_abandoned_total", "Operations whose deadline passed while they ran.", func(s pkcs11.Stats) uint64 { return s.AbandonedTotal }),
	counter("signetd_pkcs11_expired_total", "Operations whose deadline passed before they reached the token.", func(s pkcs11.Stats) uint64 { return s.ExpiredTotal }),
	counter("signetd_pkcs11_overloaded_total", "Operations refused because too many waited.", func(s pkcs11.Stats) uint64 { return s.OverloadedTotal }),
	counter("signetd_pkcs11_stuck_total", "Operations refused because every session hung.", func(s pkcs11.Stats) uint64 { return s.StuckTotal }),
	counter("signetd_pkcs11_repairs_total", "Times that login and keys were found again.", func(s pkcs11.Stats) uint64 { return s.RepairsTotal }),
	counter("signetd_pkcs11_restarts_total", "Times that the module was initialised anew.", func(s pkcs11.Stats) uint64 { return s.RestartsTotal }),
	counter("signetd_pkcs11_logins_total", "Logins, by all backends of the token.", func(s pkcs11.Stats) uint64 { return s.LoginsTotal }),
}

// cloudStats are of the backends of cloud services.
var cloudStats = []stat[cloud.Stats]{
	counter("signetd_cloud_attempts_total", "Calls to the service, those that were tried again too.", func(s cloud.Stats) uint64 { return s.AttemptsTotal }),
	counter("signetd_cloud_retries_total", "Calls to the service that repeat one that failed.", func(s cloud.Stats) uint64 { return s.RetriesTotal }),
	counter("signetd_cloud_throttled_total", "Calls that the service refused for their number.", func(s cloud.Stats) uint64 { return s.ThrottledTotal }),
	counter("signetd_cloud_limited_total", "Operations refused here because the configured rate was used up.", func(s cloud.Stats) uint64 { return s.LimitedTotal }),
	counter("signetd_cloud_unavailable_total", "Operations given up after the last attempt.", func(s cloud.Stats) uint64 { return s.UnavailableTotal }),
}

// quotaUsed has the class of operations as its second label.
var quotaUsed = prometheus.NewDesc("signetd_cloud_quota_used", "Share of the configured rate that the last second took, by class of operation.", []string{"backend", "class"}, nil)

func gauge[S any](name, help string, value func(S) float64) stat[S] {
	return stat[S]{prometheus.NewDesc(name, help, []string{"backend"}, nil), prometheus.GaugeValue, value}
}

func counter[S any](name, help string, value func(S) uint64) stat[S] {
	s := gauge(name, help, func(s S) float64 { return float64(value(s)) })
	s.typ = prometheus.CounterValue
	return s
}

// Describe implements [prometheus.Collector].
func (c statsCollector) Describe(out chan<- *prometheus.Desc) {
	for _, s := range pkcs11Stats {
		out <- s.desc
	}
	for _, s := range cloudStats {
		out <- s.desc
	}
	out <- quotaUsed
}

// Collect implements [prometheus.Collector].
func (c statsCollector) Collect(out chan<- prometheus.Metric) {
	c.service.EachBackend(func(name string, b signer.Backend) {
		if l, ok := b.(*lateBackend); ok {
			b, _ = l.opened()
		}
		switch b := b.(type) {
		case interface{ Stats() pkcs11.Stats }:
			collect(out, name, pkcs11Stats, b.Stats())
		case interface{ Stats() cloud.Stats }:
			now := b.Stats()
			collect(out, name, cloudStats, now)
			for class, used := range now.Used {
				out <- prometheus.MustNewConstMetric(quotaUsed, prometheus.GaugeValue, used, name, class)
			}
		}
	})
}

func collect[S any](out chan<- prometheus.Metric, backend string, stats []stat[S], now S) {
	for _, s := range stats {
		out <- prometheus.MustNewConstMetric(s.desc, s.typ, s.value(now), backend)
	}
}

// A placesCollector makes a metric of the versions that cannot be used now.
type placesCollector struct{ service *daemon.Service }

var placesMissing = prometheus.NewDesc("signetd_versions_missing", "Versions of the key that the backend has not opened yet, or does not serve now.", []string{"key", "backend"}, nil)

// Describe implements [prometheus.Collector].
func (c placesCollector) Describe(out chan<- *prometheus.Desc) { out <- placesMissing }

// Collect implements [prometheus.Collector].
func (c placesCollector) Collect(out chan<- prometheus.Metric) {
	for _, k := range c.service.Ring().Keys() {
		missing := map[string]int{}
		for _, v := range k.Versions {
			for _, p := range v.Places() {
				n := 0
				if p.State != signer.StateOK {
					n = 1
				}
				missing[p.Backend] += n
			}
		}
		for backend, n := range missing {
			out <- prometheus.MustNewConstMetric(placesMissing, prometheus.GaugeValue, float64(n), k.Name, backend)
		}
	}
}
