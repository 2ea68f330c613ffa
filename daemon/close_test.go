package daemon

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/signer"
)

// TestNoOracleInMetrics: a peer that can read the metrics, and have the daemon open
// a JWE, must not see at which step that failed (RFC 7516 section 11.5).
func TestNoOracleInMetrics(t *testing.T) {
	seen := func(unwraps bool) map[string]uint64 {
		f := serve(t, Limits{})
		v, err := f.setup.Ring.Active("inbox", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		jwe, err := v.EncryptJWE(t.Context(), "", signer.Header{}, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(jwe, ".")
		if unwraps {
			parts[4] = base64.RawURLEncoding.EncodeToString(make([]byte, 16)) // the tag
		} else {
			parts[1] = base64.RawURLEncoding.EncodeToString(append([]byte{0}, make([]byte, 255)...))
			parts[1] = "AAAA" + parts[1][4:]
		}
		_, err = ask(t, f.service, api.DecryptJWE, &api.DecryptJWERequest{JWE: strings.Join(parts, ".")})
		if !errors.Is(err, signer.ErrDecrypt) {
			t.Fatalf("DecryptJWE() = %v", err)
		}
		return backendCounts(t, f.metrics)
	}
	tag, key := seen(true), seen(false)
	if len(tag) != 1 || len(key) != 1 {
		t.Fatalf("backend metrics: %v and %v, want one series each", tag, key)
	}
	for series := range tag {
		if _, ok := key[series]; !ok {
			t.Errorf("a wrong tag shows as %v in the metrics, a wrong encrypted key as %v", tag, key)
		}
	}
}

// backendCounts returns how often each series of signetd_backend_seconds was
// observed, by its labels.
func backendCounts(t *testing.T, m *Metrics) map[string]uint64 {
	t.Helper()
	families, err := m.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "signetd_backend_seconds" {
			continue
		}
		for _, series := range f.GetMetric() {
			var labels []string
			for _, l := range series.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			counts[strings.Join(labels, " ")] += series.GetHistogram().GetSampleCount()
		}
	}
	return counts
}

// A hangingBackend has a Close that does not return until released, as that of a
// token does while a call into it hangs.
type hangingBackend struct {
	signer.Backend
	closing chan struct{}
	release chan struct{}
}

func newHangingBackend(t *testing.T) *hangingBackend {
	t.Helper()
	return &hangingBackend{openSoftware(t), make(chan struct{}), make(chan struct{})}
}

func (b *hangingBackend) Close() error {
	close(b.closing)
	<-b.release
	return b.Backend.Close()
}

// TestSwapDoesNotWait: neither a reload nor the last request of the old setup
// waits for the old backend to close.
func TestSwapDoesNotWait(t *testing.T) {
	old := newHangingBackend(t)
	f := serveOver(t, Limits{}, old)
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		_, err := performList(t, f, func(context.Context, *call) (*struct{}, error) {
			close(entered)
			<-leave
			return nil, nil //nolint:nilnil // it answers nothing
		})
		if err != nil {
			t.Error(err)
		}
	}()
	<-entered
	f.service.Swap(newSetup(t, openSoftware(t), f.metrics))
	close(leave)
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Error("the last request of the old setup waits for its backend to close")
	}
	<-old.closing
	close(old.release)
	if err := f.service.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCloseObeysContext: a token that hangs does not keep the daemon from ending.
func TestCloseObeysContext(t *testing.T) {
	b := newHangingBackend(t)
	f := serveOver(t, Limits{}, b)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.service.Close(ctx) }()
	select {
	case err := <-done:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close() = %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Close does not return when its context ends")
	}
	close(b.release)
}

// TestBehindPanics: no records are expected for requests behind one that panicked.
func TestBehindPanics(t *testing.T) {
	f := serve(t, Limits{})
	saved := entries[api.GetVersion.Path]
	defer func() { entries[api.GetVersion.Path] = saved }()
	boom := saved
	boom.answer = func(context.Context, *Service, *Request) Response { panic("boom") }
	entries[api.GetVersion.Path] = boom

	q := f.service.Begin(me())
	q.Method, q.Path, q.Behind = api.GetVersion.Method, api.GetVersion.Path, 3
	func() {
		defer func() { _ = recover() }()
		f.service.Answer(t.Context(), &q)
	}()
	if n := f.log.Expected(); n != 0 {
		t.Errorf("%d records are expected", n)
	}
}
