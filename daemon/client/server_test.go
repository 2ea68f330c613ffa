package client_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/daemon/client"
	"signetd/daemon/daemontest"
	"signetd/daemon/policy"
	"signetd/signer"
)

var (
	signs = []api.Op{api.OpSignDigest, api.OpSignJWS}
	opens = []api.Op{api.OpUnwrap, api.OpDecrypt, api.OpEncrypt}
)

// testKeys are the keys of the daemon in these tests, and what this user may do with them.
// Only oidc has claim rules.
var testKeys = []daemontest.Key{
	{Name: "es256", Algs: []signer.Alg{signer.ES256}, Ops: signs},
	{Name: "es384", Algs: []signer.Alg{signer.ES384}, Ops: signs},
	{Name: "es512", Algs: []signer.Alg{signer.ES512}, Ops: signs},
	{Name: "es256k", Algs: []signer.Alg{signer.ES256K}, Ops: signs},
	{Name: "eddsa", Algs: []signer.Alg{signer.EdDSA}, Ops: signs},
	{Name: "rsa", Algs: []signer.Alg{signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512}, Ops: signs},
	{Name: "rs256", Algs: []signer.Alg{signer.RS256}, Ops: signs},
	{Name: "inbox", Algs: []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512}, Ops: opens},
	{
		Name: "oidc", Algs: []signer.Alg{signer.ES256}, Ops: []api.Op{api.OpSignJWT, api.OpVerify},
		JWT: &policy.JWT{Issuer: "https://id.example.com", Audiences: []string{"api"}, MaxTTL: time.Minute, Typ: "JWT"},
	},
	{Name: "hidden", Algs: []signer.Alg{signer.ES256}},
}

// serveDaemon runs a daemon with the test keys until the test ends. Its limits are above
// the number of requests that the conformance suite has in flight.
func serveDaemon(t *testing.T) (socket string) {
	t.Helper()
	return daemontest.New(t, daemontest.Config{
		Keys:   testKeys,
		Ops:    []api.Op{api.OpReload, api.OpEncryptJWK},
		Limits: daemon.Limits{Connections: 1024, InFlight: 64, PerPeer: 64, Timeout: 30 * time.Second},
		Reload: func(context.Context) (int, error) { return len(testKeys), nil },
	}).Socket()
}

// connectDaemon returns a client of a daemon with the test keys.
func connectDaemon(t *testing.T) *client.Client {
	t.Helper()
	c := client.New(client.Config{Socket: serveDaemon(t)})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// connect returns a client of a server whose handler is h.
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
	socket = daemontest.SocketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return socket, l
}
