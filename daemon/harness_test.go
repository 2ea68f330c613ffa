package daemon

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signetd/backends/software"
	"signetd/daemon/api"
	"signetd/daemon/api/apitest"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// A fixture is a daemon on a socket of its own with three keys that this process
// may use: oidc, which has claim rules, notes, which signs any payload, and
// inbox, which decrypts. Package daemontest has the like for other packages, which
// the tests in here cannot import.
type fixture struct {
	service *Service
	log     *audit.Log
	server  *Server
	metrics *Metrics
	setup   Setup
	socket  string
	audit   string
}

// serve runs a daemon over software keys until the test ends.
func serve(t testing.TB, limits Limits) *fixture {
	t.Helper()
	return serveOver(t, limits, openSoftware(t))
}

// serveOver is serve with a backend that takes the refs of package software.
func serveOver(t testing.TB, limits Limits, backend signer.Backend) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{metrics: NewMetrics("test"), socket: filepath.Join(dir, "s"), audit: filepath.Join(dir, "audit.jsonl")}
	log, err := audit.Open(f.audit, audit.SyncNever)
	if err != nil {
		t.Fatal(err)
	}
	f.log = log
	f.setup = newSetup(t, backend, f.metrics)
	f.service = NewService(f.setup, limits, log, f.metrics, slog.New(slog.DiscardHandler))
	f.server = NewServer(f.service, ServerConfig{Limits: limits, Version: "test"})
	l, err := ListenUnix(SocketConfig{Path: f.socket, Mode: 0o600, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(l) }() // ends with Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		for name, err := range map[string]error{
			"Shutdown": f.server.Shutdown(ctx), "Serve": <-done, "Service.Close": f.service.Close(ctx), "Socket.Close": l.Close(), "audit": log.Close(),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	return f
}

func openSoftware(t testing.TB) signer.Backend {
	t.Helper()
	b, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newSetup returns the keys and grants of a fixture.
func newSetup(t testing.TB, backend signer.Backend, m *Metrics) Setup {
	t.Helper()
	version := func(ref string, alg signer.Alg) []*signer.Version {
		k, err := backend.OpenKey(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{alg}, Places: []signer.PlaceConfig{{Backend: "memory", Observe: m.ObserveBackend("memory")}}})
		if err != nil {
			t.Fatal(err)
		}
		return []*signer.Version{v}
	}
	ring, err := signer.NewRing([]signer.NamedKey{
		{Name: "oidc", Versions: version("generate:ec-p256", signer.ES256)},
		{Name: "notes", Versions: version("generate:ec-p256:notes", signer.ES256)},
		{Name: "inbox", Versions: version("generate:rsa-2048", signer.RSAOAEP256)},
	})
	if err != nil {
		t.Fatal(err)
	}
	rules := &policy.JWT{Issuer: "https://id.example", Audiences: []string{"api"}, MaxTTL: time.Minute, Typ: "JWT"}
	keys := []policy.Key{{Name: "oidc", Use: signer.UseSig, JWT: rules}, {Name: "notes", Use: signer.UseSig}, {Name: "inbox", Use: signer.UseEnc}}
	uid := me().UID
	p, err := policy.New(keys, []policy.Grant{
		{Peer: policy.Match{UID: &uid}, Ops: []api.Op{api.OpSignJWT, api.OpVerify}, Keys: []string{"oidc"}},
		{Peer: policy.Match{UID: &uid}, Ops: []api.Op{api.OpSignJWS}, Keys: []string{"notes"}},
		{Peer: policy.Match{UID: &uid}, Ops: []api.Op{api.OpDecrypt, api.OpUnwrap, api.OpEncrypt}, Keys: []string{"inbox"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Setup{Ring: ring, Policy: p, Backends: map[string]signer.Backend{"memory": backend}}
}

// me is the peer that this process is.
func me() policy.Peer { return policy.Peer{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())} }

func (f *fixture) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// do sends one request on a connection of its own. It fails if request or answer is
// not as the description of the API has it.
func (f *fixture) do(t testing.TB, method, path, body string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: apitest.Transport{Base: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", f.socket)
	}}}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://signetd"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// errorCode returns the code of a typed error, and fails the test for any other body.
func errorCode(t testing.TB, body string) string {
	t.Helper()
	var e api.ErrorResponse
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Error.Code == "" || e.Error.Message == "" || e.Error.RequestID == "" {
		t.Fatalf("body %q is no typed error: %v", body, err)
	}
	return e.Error.Code
}
