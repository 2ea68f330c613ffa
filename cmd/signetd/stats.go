package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"signetd/daemon"
	"signetd/signer"
)

// A statsCollector collects the metrics that the backends in use report about
// themselves. A reload opens new backends, so that counters begin at zero again.
type statsCollector struct {
	service interface { // a *daemon.Service
		EachBackend(f func(name string, b signer.Backend))
	}
}

// Describe implements [prometheus.Collector]. It describes nothing, because only the
// backends know their metrics, and a reload can bring others.
func (c statsCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c statsCollector) Collect(out chan<- prometheus.Metric) {
	c.service.EachBackend(func(name string, b signer.Backend) {
		metered, ok := b.(signer.Metered)
		if !ok {
			return
		}

		for _, m := range metered.Metrics() {
			labels, values := []string{"backend"}, []string{name}
			if m.Label != "" {
				labels, values = append(labels, m.Label), append(values, m.LabelValue)
			}
			kind := prometheus.GaugeValue
			if m.Counter {
				kind = prometheus.CounterValue
			}

			metric, err := prometheus.NewConstMetric(prometheus.NewDesc(m.Name, m.Help, labels, nil), kind, m.Value, values...)
			if err != nil {
				metric = prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
			}
			out <- metric
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
