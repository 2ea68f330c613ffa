package daemon

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signetd/backends/software"
	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// world is a daemon with one key for signatures and one for decryption, both of
// which this process may use in every way.
type world struct {
	service *Service
	server  *Server
	metrics *Metrics
	socket  string
	setup   Setup
}

func newWorld(t *testing.T, limits Limits, backend signer.Backend) *world {
	t.Helper()
	w := &world{metrics: NewMetrics("test"), socket: filepath.Join(t.TempDir(), "s")}
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit"), audit.SyncNever)
	if err != nil {
		t.Fatal(err)
	}
	w.setup = newSetup(t, backend, w.metrics)
	w.service = NewService(w.setup, limits, log, w.metrics, slog.New(slog.DiscardHandler))
	w.server = NewServer(w.service, ServerConfig{Limits: limits})
	l, err := ListenUnix(SocketConfig{Path: w.socket, Mode: 0o600, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(w.server.Shutdown(ctx), <-done, l.Close(), log.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func newSetup(t *testing.T, backend signer.Backend, m *Metrics) Setup {
	t.Helper()
	if backend == nil {
		var err error
		if backend, err = software.Open(t.Context(), software.Config{}); err != nil {
			t.Fatal(err)
		}
	}
	version := func(ref string, alg signer.Alg) []*signer.Version {
		k, err := backend.OpenKey(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{alg}, Backend: "b", Observe: m.ObserveBackend("b")})
		if err != nil {
			t.Fatal(err)
		}
		return []*signer.Version{v}
	}
	ring, err := signer.NewRing([]signer.NamedKey{
		{Name: "notes", Versions: version("generate:ec-p256", signer.ES256)},
		{Name: "inbox", Versions: version("generate:rsa-2048", signer.RSAOAEP256)},
	})
	if err != nil {
		t.Fatal(err)
	}
	uid := uint32(os.Getuid())
	p, err := policy.New([]policy.Key{{Name: "notes", Use: signer.UseSig}, {Name: "inbox", Use: signer.UseEnc}}, []policy.Grant{
		{Peer: policy.Match{UID: &uid}, Ops: []policy.Op{policy.OpSignJWS}, Keys: []string{"notes"}},
		{Peer: policy.Match{UID: &uid}, Ops: []policy.Op{policy.OpDecrypt, policy.OpUnwrap}, Keys: []string{"inbox"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Setup{Ring: ring, Policy: p, Backends: map[string]signer.Backend{"b": backend}}
}

// me is the peer that this process is.
func me() policy.Peer { return policy.Peer{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())} }

// TestNoOracleInMetrics: whoever can read the metrics, and have the daemon open a
// JWE, must not see at which step that failed (RFC 7516 section 11.5).
func TestNoOracleInMetrics(t *testing.T) {
	seen := func(unwraps bool) map[string]uint64 {
		w := newWorld(t, Limits{}, nil)
		v, err := w.setup.Ring.Active("inbox", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		jwe, err := v.EncryptJWE("", signer.Header{}, []byte("hello"))
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
		_, err = w.service.DecryptJWE(t.Context(), NewRequest(me()), &api.DecryptJWERequest{JWE: strings.Join(parts, ".")})
		if !errors.Is(err, signer.ErrDecrypt) {
			t.Fatalf("DecryptJWE() = %v", err)
		}
		return backendCounts(t, w.metrics)
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
	b, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &hangingBackend{b, make(chan struct{}), make(chan struct{})}
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
	w := newWorld(t, Limits{}, old)
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		_, err := do(t.Context(), w.service, NewRequest(me()), policy.OpList, "", func(context.Context, *call) (*struct{}, error) {
			close(entered)
			<-leave
			return nil, nil //nolint:nilnil // it answers nothing
		})
		if err != nil {
			t.Error(err)
		}
	}()
	<-entered
	w.service.Swap(newSetup(t, nil, w.metrics))
	close(leave)
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Error("the last request of the old setup waits for its backend to close")
	}
	<-old.closing
	close(old.release)
	if err := w.service.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCloseObeysContext: a token that hangs does not keep the daemon from ending.
func TestCloseObeysContext(t *testing.T) {
	b := newHangingBackend(t)
	w := newWorld(t, Limits{}, b)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.service.Close(ctx) }()
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

// conn returns a connection of uid that ends with the test.
func (w *world) conn(t *testing.T, uid uint32) *conn {
	c := &conn{UnixConn: &net.UnixConn{}, peer: policy.Peer{UID: uid}, server: w.server}
	t.Cleanup(func() {
		if _, ok := w.server.open[c]; ok {
			w.server.dismiss(c)
		}
	})
	return c
}

// TestOneUserDoesNotFillTheDaemon: with all the connections that one user can
// have open, another still gets in.
func TestOneUserDoesNotFillTheDaemon(t *testing.T) {
	w := newWorld(t, Limits{Connections: 8}, nil)
	var served, surplus, refused int
	for range 100 {
		switch c := w.conn(t, 1); {
		case !w.server.admit(c):
			refused++
		case c.surplus:
			surplus++
		default:
			served++
		}
	}
	if served != 4 || surplus == 0 || refused == 0 {
		t.Errorf("of one user's 100 connections %d are served, %d told no in HTTP and %d told no at once", served, surplus, refused)
	}
	for i := range 4 {
		c := w.conn(t, 2)
		if !w.server.admit(c) || c.surplus {
			t.Fatalf("another user's connection %d is not served", i+1)
		}
	}
}

// TestDismissUndoesAdmit: what was counted in is counted out.
func TestDismissUndoesAdmit(t *testing.T) {
	w := newWorld(t, Limits{Connections: 4}, nil)
	var open []*conn
	for uid := range uint32(20) {
		if c := (&conn{UnixConn: &net.UnixConn{}, peer: policy.Peer{UID: uid % 3}, server: w.server}); w.server.admit(c) {
			open = append(open, c)
		}
	}
	for _, c := range open {
		w.server.dismiss(c)
	}
	if w.server.count != (connections{}) || len(w.server.users) != 0 {
		t.Errorf("with all connections gone: %+v, users %v", w.server.open, w.server.users)
	}
}
