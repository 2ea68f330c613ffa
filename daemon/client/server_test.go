package client_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"signetd/backends/software"
	"signetd/daemon"
	"signetd/daemon/audit"
	"signetd/daemon/client"
	"signetd/daemon/policy"
	"signetd/signer"
)

var (
	signs = []policy.Op{policy.OpSignDigest, policy.OpSignJWS}
	opens = []policy.Op{policy.OpUnwrap, policy.OpDecrypt, policy.OpEncrypt}
)

// testKeys are the keys of the daemon of these tests, and what this user may do
// with them.
var testKeys = []struct {
	name, ref string
	algs      []signer.Alg
	ops       []policy.Op
}{
	{"es256", "generate:ec-p256", []signer.Alg{signer.ES256}, signs},
	{"es384", "generate:ec-p384", []signer.Alg{signer.ES384}, signs},
	{"es512", "generate:ec-p521", []signer.Alg{signer.ES512}, signs},
	{"rsa", "generate:rsa-2048:sig", []signer.Alg{signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512}, signs},
	{"rs256", "generate:rsa-2048:pinned", []signer.Alg{signer.RS256}, signs},
	{"inbox", "generate:rsa-2048:enc", []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512}, opens},
	{"oidc", "generate:ec-p256:oidc", []signer.Alg{signer.ES256}, []policy.Op{policy.OpSignJWT, policy.OpVerify}},
	{"hidden", "generate:ec-p256:hidden", []signer.Alg{signer.ES256}, nil},
}

// setup makes the test keys, with claim rules for oidc.
func setup(t *testing.T) daemon.Setup {
	t.Helper()
	soft, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}
	uid := uint32(os.Getuid())
	me := policy.Match{UID: &uid}
	grants := []policy.Grant{{Peer: me, Ops: []policy.Op{policy.OpReload, policy.OpEncryptJWK}}}
	var named []signer.NamedKey
	var known []policy.Key
	for _, k := range testKeys {
		private, err := soft.OpenKey(t.Context(), k.ref)
		if err != nil {
			t.Fatal(err)
		}
		v, err := signer.NewVersion(private, signer.VersionConfig{Algs: k.algs, Backend: "soft"})
		if err != nil {
			t.Fatal(err)
		}
		named = append(named, signer.NamedKey{Name: k.name, Versions: []*signer.Version{v}})
		known = append(known, policy.Key{Name: k.name, Use: v.Use()})
		if k.name == "oidc" {
			known[len(known)-1].JWT = &policy.JWT{Issuer: "https://id.example.com", Audiences: []string{"api"}, MaxTTL: time.Minute, Typ: "JWT"}
		}
		if k.ops != nil {
			grants = append(grants, policy.Grant{Peer: me, Ops: k.ops, Keys: []string{k.name}})
		}
	}
	ring, err := signer.NewRing(named)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(known, grants)
	if err != nil {
		t.Fatal(err)
	}
	return daemon.Setup{Ring: ring, Policy: p, Backends: map[string]signer.Backend{"soft": soft}}
}

// serveDaemon runs a daemon with the test keys for as long as the test runs. Its
// limits are above what the conformance suite asks for at once.
func serveDaemon(t *testing.T) (socket string) {
	t.Helper()
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit.jsonl"), audit.SyncNever)
	if err != nil {
		t.Fatal(err)
	}
	limits := daemon.Limits{Connections: 1024, InFlight: 64, PerPeer: 64, Timeout: 30 * time.Second}
	service := daemon.NewService(setup(t), limits, log, daemon.NewMetrics("test"), slog.New(slog.DiscardHandler))
	srv := daemon.NewServer(service, daemon.ServerConfig{
		Limits: limits, Version: "1.2.3-test",
		Reload: func(context.Context) (int, error) { return len(testKeys), nil },
	})
	socket, l := listen(t)
	go func() { _ = srv.Serve(l) }() // until Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown() = %v", err)
		}
		if err := service.Close(ctx); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if err := log.Close(); err != nil {
			t.Errorf("Close() of the audit log = %v", err)
		}
	})
	return socket
}

// connectDaemon returns a client of a daemon with the test keys.
func connectDaemon(t *testing.T) *client.Client {
	t.Helper()
	c := client.New(client.Config{Socket: serveDaemon(t)})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// connect returns a client of a server that answers with h.
func connect(t *testing.T, h http.Handler) *client.Client {
	t.Helper()
	socket, l := listen(t)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }() // until Close
	t.Cleanup(func() { _ = srv.Close() })
	c := client.New(client.Config{Socket: socket})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func listen(t *testing.T) (socket string, l net.Listener) {
	t.Helper()
	socket = socketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return socket, l
}

// socketPath is short: t.TempDir may not fit the 104 bytes of a socket's address.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "signet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}
