package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"signetd/backends/pkcs11"
	"signetd/daemon"
	"signetd/signer"
)

// A statsCollector makes metrics of what the PKCS#11 backends in use say of
// themselves. After a reload they are new ones, and count from zero.
type statsCollector struct{ service *daemon.Service }

// A stat is one of the metrics, with the backend's name as its label.
type stat struct {
	desc  *prometheus.Desc
	typ   prometheus.ValueType
	value func(pkcs11.Stats) float64
}

var stats = []stat{
	gauge("sessions", "Sessions that may be open.", func(s pkcs11.Stats) float64 { return float64(s.Sessions) }),
	gauge("sessions_busy", "Sessions that an operation runs on.", func(s pkcs11.Stats) float64 { return float64(s.Busy) }),
	gauge("waiting", "Operations that wait for a session.", func(s pkcs11.Stats) float64 { return float64(s.Waiting) }),
	gauge("abandoned", "Operations that still run although who asked has left.", func(s pkcs11.Stats) float64 { return float64(s.Abandoned) }),
	gauge("down", "1 while the token is gone and every operation is refused.", func(s pkcs11.Stats) float64 {
		if s.Down {
			return 1
		}
		return 0
	}),
	counter("abandoned_total", "Operations whose deadline passed while they ran.", func(s pkcs11.Stats) uint64 { return s.AbandonedTotal }),
	counter("expired_total", "Operations whose deadline passed before they reached the token.", func(s pkcs11.Stats) uint64 { return s.ExpiredTotal }),
	counter("overloaded_total", "Operations refused because too many waited.", func(s pkcs11.Stats) uint64 { return s.OverloadedTotal }),
	counter("stuck_total", "Operations refused because every session hung.", func(s pkcs11.Stats) uint64 { return s.StuckTotal }),
	counter("repairs_total", "Times that login and keys were found again.", func(s pkcs11.Stats) uint64 { return s.RepairsTotal }),
	counter("restarts_total", "Times that the module was initialised anew.", func(s pkcs11.Stats) uint64 { return s.RestartsTotal }),
	counter("logins_total", "Logins, by all backends of the token.", func(s pkcs11.Stats) uint64 { return s.LoginsTotal }),
}

func gauge(name, help string, value func(pkcs11.Stats) float64) stat {
	return stat{prometheus.NewDesc("signetd_pkcs11_"+name, help, []string{"backend"}, nil), prometheus.GaugeValue, value}
}

func counter(name, help string, value func(pkcs11.Stats) uint64) stat {
	s := gauge(name, help, func(s pkcs11.Stats) float64 { return float64(value(s)) })
	s.typ = prometheus.CounterValue
	return s
}

// Describe implements [prometheus.Collector].
func (c statsCollector) Describe(out chan<- *prometheus.Desc) {
	for _, s := range stats {
		out <- s.desc
	}
}

// Collect implements [prometheus.Collector].
func (c statsCollector) Collect(out chan<- prometheus.Metric) {
	c.service.EachBackend(func(name string, b signer.Backend) {
		if l, ok := b.(*lateBackend); ok {
			b, _ = l.opened()
		}
		reporter, ok := b.(interface{ Stats() pkcs11.Stats })
		if !ok {
			return
		}
		now := reporter.Stats()
		for _, s := range stats {
			out <- prometheus.MustNewConstMetric(s.desc, s.typ, s.value(now), name)
		}
	})
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
