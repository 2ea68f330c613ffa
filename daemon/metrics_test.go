package daemon

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"signetd/signer"
)

// series returns how often each series of a metric was counted, by its labels' values
// in the order of their names.
func series(t *testing.T, m *Metrics, name string) map[string]uint64 {
	t.Helper()
	families, err := m.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, s := range f.GetMetric() {
			var values []string
			for _, l := range s.GetLabel() {
				values = append(values, l.GetValue())
			}
			counts[strings.Join(values, " ")] = uint64(s.GetCounter().GetValue()) + s.GetHistogram().GetSampleCount()
		}
	}
	return counts
}

// TestObserveRequest counts requests with many labels from several goroutines, and has
// none counted under those of another.
func TestObserveRequest(t *testing.T) {
	m := NewMetrics("test")
	const goroutines, rounds, kinds = 4, 10, 3 * 7 * 2
	requests, times := map[string]uint64{}, map[string]uint64{}
	for i := range kinds {
		requests[fmt.Sprintf("ES256 key%d op%d outcome%d", i%7, i%3, i%2)] = goroutines * rounds
		times[fmt.Sprintf("op%d", i%3)] += goroutines * rounds
	}
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range rounds * kinds {
				l := requestLabels{op: fmt.Sprint("op", i%3), key: fmt.Sprint("key", i%7), alg: "ES256", outcome: fmt.Sprint("outcome", i%2)}
				m.observeRequest(l, time.Millisecond)
			}
		})
	}
	wg.Wait()
	if got := series(t, m, "signetd_requests_total"); !maps.Equal(got, requests) {
		t.Errorf("requests are %v, want %v", got, requests)
	}
	if got := series(t, m, "signetd_request_seconds"); !maps.Equal(got, times) {
		t.Errorf("times are %v, want %v", got, times)
	}
}

// TestObserveBackend holds that a backend has series for what happened and no others.
func TestObserveBackend(t *testing.T) {
	m := NewMetrics("test")
	a, b := m.ObserveBackend("a"), m.ObserveBackend("b")
	if got := series(t, m, "signetd_backend_seconds"); len(got) != 0 {
		t.Errorf("there are %v before anything is used", got)
	}
	for range 3 {
		a(signer.UseSig, time.Millisecond, nil)
		a(signer.UseEnc, time.Millisecond, nil)
		b(signer.UseSig, time.Millisecond, errors.New("x"))
	}
	want := map[string]uint64{"a ok sig": 3, "a ok enc": 3, "b internal sig": 3}
	if got := series(t, m, "signetd_backend_seconds"); !maps.Equal(got, want) {
		t.Errorf("uses are %v, want %v", got, want)
	}
}

func BenchmarkObserveRequest(b *testing.B) {
	m := NewMetrics("test")
	b.ReportAllocs()
	for b.Loop() {
		m.observeRequest(requestLabels{"sign-jwt", "oidc", "ES256", "ok"}, time.Millisecond)
	}
}
