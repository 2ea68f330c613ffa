package server

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
	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/daemon/api/apitest"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// A fixture is a daemon on a socket of its own, with a key that this process may sign with:
// oidc, which has claim rules. Package daemontest has the like for other packages, which
// the tests in here cannot import.
type fixture struct {
	service *daemon.Service
	server  *Server
	log     *audit.Log
	socket  string
	audit   string
}

// serve runs a daemon over software keys until the test ends.
func serve(t testing.TB, limits daemon.Limits) *fixture {
	t.Helper()
	return serveOver(t, limits, openSoftware(t))
}

// serveOver is serve with a backend that takes the refs of package software.
func serveOver(t testing.TB, limits daemon.Limits, backend signer.Backend) *fixture {
	t.Helper()
	return serveWith(t, limits, backend, nil)
}

func serveWith(t testing.TB, limits daemon.Limits, backend signer.Backend, reload func(context.Context) (int, error)) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{socket: filepath.Join(dir, "s"), audit: filepath.Join(dir, "audit.jsonl")}
	var err error
	if f.log, err = audit.Open(f.audit, audit.SyncNever); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	f.service = daemon.NewService(newSetup(t, backend), daemon.Config{
		Limits: limits, Version: "test", Audit: f.log, Metrics: daemon.NewMetrics("test"), Log: log,
		Reload: reload,
	})
	f.server = New(f.service, Config{Limits: limits, Log: log})
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
			"Shutdown": f.server.Shutdown(ctx), "Serve": <-done, "Service.Close": f.service.Close(ctx), "Socket.Close": l.Close(), "audit": f.log.Close(),
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

func newSetup(t testing.TB, backend signer.Backend) daemon.Setup {
	t.Helper()
	k, err := backend.OpenKey(t.Context(), "generate:ec-p256")
	if err != nil {
		t.Fatal(err)
	}
	v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := signer.NewRing([]signer.NamedKey{{Name: "oidc", Versions: []*signer.Version{v}}})
	if err != nil {
		t.Fatal(err)
	}
	uid := me().UID
	p, err := policy.New(
		[]policy.Key{{Name: "oidc", Use: signer.UseSig, JWT: &policy.JWT{Issuer: "https://id.example", Audiences: []string{"api"}, MaxTTL: time.Minute, Typ: "JWT"}}},
		[]policy.Grant{
			{Peer: policy.Match{UID: &uid}, Ops: []api.Op{api.OpSignJWT}, Keys: []string{"oidc"}},
			{Peer: policy.Match{UID: &uid}, Ops: []api.Op{api.OpReload}},
		})
	if err != nil {
		t.Fatal(err)
	}
	return daemon.Setup{Ring: ring, Policy: p, Backends: map[string]signer.Backend{"memory": backend}}
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

// do sends one request on a connection of its own. It fails if request or answer is not as
// the description of the API has it.
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

// records reads the audit log of f.
func (f *fixture) records(t testing.TB) (list []audit.Record) {
	t.Helper()
	data, err := os.ReadFile(f.audit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var r audit.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
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
