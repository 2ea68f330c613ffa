package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
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

// A fixture is a service with three keys that this process may use: oidc, which has claim
// rules, notes, which signs any payload, and inbox, which decrypts. Package daemontest has
// the like for other packages, which the tests in here cannot import.
type fixture struct {
	service *Service
	log     *audit.Log
	metrics *Metrics
	setup   Setup
	audit   string
}

// serve returns a service over software keys that is closed when the test ends.
func serve(t testing.TB, limits Limits) *fixture {
	t.Helper()
	return serveOver(t, limits, openSoftware(t))
}

// serveOver is serve with a backend that takes the refs of package software.
func serveOver(t testing.TB, limits Limits, backend signer.Backend) *fixture {
	t.Helper()
	f := &fixture{metrics: NewMetrics("test"), audit: filepath.Join(t.TempDir(), "audit.jsonl")}
	log, err := audit.Open(f.audit, audit.SyncNever)
	if err != nil {
		t.Fatal(err)
	}
	f.log = log
	f.setup = newSetup(t, backend, f.metrics)
	f.service = NewService(f.setup, Config{Limits: limits, Version: "test", Audit: log, Metrics: f.metrics, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		for name, err := range map[string]error{"Service.Close": f.service.Close(ctx), "audit": log.Close()} {
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

// RoundTrip implements [http.RoundTripper]: it has the service answer, without a socket.
func (f *fixture) RoundTrip(req *http.Request) (*http.Response, error) {
	q := f.service.Begin(me())
	q.Method, q.Path = req.Method, req.URL.Path
	if req.Body != nil {
		if q.Body, q.BodyErr = io.ReadAll(req.Body); q.BodyErr != nil {
			return nil, q.BodyErr
		}
	}
	r := f.service.Answer(req.Context(), &q)
	_ = r.Commit() // the response says so if it fails

	head := http.Header{"Content-Type": {"application/json"}, "Request-Id": {r.RequestID}}
	for name, value := range map[string]string{"Retry-After": r.RetryAfter, "Allow": r.Allow} {
		if value != "" {
			head.Set(name, value)
		}
	}
	return &http.Response{StatusCode: r.Status, Header: head, Body: io.NopCloser(bytes.NewReader(r.Body)), ContentLength: int64(len(r.Body)), Request: req, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// do has one request answered. It fails if request or answer is not as the description of
// the API has it.
func (f *fixture) do(t testing.TB, method, path, body string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: apitest.Transport{Base: f}}
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

// performList has the service perform an operation that is not in the table, with a grant.
func performList[A any](t testing.TB, f *fixture, act func(context.Context, *call) (*A, error)) (*A, error) {
	t.Helper()
	q := f.service.Begin(me())
	op := operation[struct{}, A]{
		Endpoint: api.Endpoint[struct{}, A]{Route: api.Route{Op: api.OpList}},
		access:   access[struct{}]{grant: onAnyKey[struct{}](api.OpList)},
		act:      func(ctx context.Context, c *call, _ *struct{}) (*A, error) { return act(ctx, c) },
	}
	answer, rec, err := perform(t.Context(), f.service, &q, &op, nil)
	if rec != nil {
		if werr := rec.commit(); werr != nil {
			return nil, werr
		}
	}
	return answer, err
}

// ask has the service answer a request for an endpoint, and decodes the answer.
func ask[Q, A any](t testing.TB, s *Service, e api.Endpoint[Q, A], body *Q) (*A, error) {
	t.Helper()
	q := s.Begin(me())
	q.Method, q.Path = e.Method, e.Path
	var err error
	if q.Body, err = json.Marshal(body); err != nil {
		t.Fatal(err)
	}
	r := s.Answer(t.Context(), &q)
	_ = r.Commit() // the response says so if it fails
	if r.Status != http.StatusOK {
		var e api.ErrorResponse
		if err := json.Unmarshal(r.Body, &e); err != nil {
			t.Fatal(err)
		}
		return nil, fmt.Errorf("%w: %s", signer.FromCode(e.Error.Code), e.Error.Message)
	}
	answer := new(A)
	return answer, json.Unmarshal(r.Body, answer)
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
