// Package daemontest runs a real daemon over software keys, for the tests of programs that
// use signetd. Policy, audit log, limits and socket are those of production, and nothing
// has to be installed.
//
// In a test of an issuer:
//
//	d := daemontest.New(t, daemontest.Config{Keys: []daemontest.Key{{
//		Name: "oidc",
//		Algs: []signer.Alg{signer.ES256},
//		JWT:  &policy.JWT{Issuer: "https://id.example.com", Audiences: []string{"api"}, MaxTTL: time.Minute, Typ: "JWT"},
//		Ops:  []api.Op{api.OpSignJWT},
//	}}})
//	c := client.New(client.Config{Socket: d.Socket()})
//	signed, err := c.SignJWT(ctx, api.SignJWTRequest{Key: "oidc", Claims: claims})
//
// For a program that takes the socket from its environment, set the variable
// client.SocketEnv. For a PKCS#11 token see package signetd/softhsm.
package daemontest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/daemon/server"
	"signetd/signer"
)

// Version is the version that the daemon of a test reports.
const Version = "1.2.3-test"

// closeTimeout bounds how long the daemon takes to stop when the test has ended.
const closeTimeout = 5 * time.Second

// A Config configures the daemon of a test.
type Config struct {
	// Keys are the keys of the daemon, one or more. No two have the same name.
	Keys []Key
	// Ops are the operations without a key that the user who runs the test may use, such
	// as api.OpReload.
	Ops []api.Op
	// Issuers are trusted. The user who runs the test has the grants verify and verify-jws
	// on each of them.
	Issuers []daemon.Issuer
	// Recipients are those to whom the user who runs the test may encrypt.
	Recipients []daemon.Recipient
	// Limits are the limits of the daemon. A field that is zero has its default.
	Limits daemon.Limits
	// Reload is called by the operation reload. Optional: without it the daemon answers
	// as one that has no config file.
	Reload func(context.Context) (keys int, err error)
	// Ping is what Ping of the backend returns: with ErrUnavailable the daemon is not
	// ready. Its keys work nevertheless.
	Ping error
}

// A Key is one key of the daemon. It has one version, which is generated for the test.
type Key struct {
	Name string
	// Algs are the algorithms that the key may be used with, the default first. They
	// decide the type of the key; RSA keys have 2048 bits.
	Algs []signer.Alg
	// KID is the kid of the version. Optional: the RFC 7638 thumbprint.
	KID string
	// JWT is the claim policy of the key. Optional: a key without it cannot have the
	// operations sign-jwt and seal-jwt.
	JWT *policy.JWT
	// Ops are the operations on the key that the user who runs the test may use. If there
	// are none, the daemon answers as if the key did not exist.
	Ops []api.Op
}

// A Daemon serves until the test that started it has ended.
type Daemon struct {
	socket string
	audit  string
}

// New starts a daemon on a socket of its own. The daemon stops when the test has ended; the
// test fails if it does not.
func New(t testing.TB, c Config) *Daemon {
	t.Helper()
	d := &Daemon{socket: SocketPath(t), audit: filepath.Join(t.TempDir(), "audit.jsonl")}
	records, err := audit.Open(d.audit, audit.SyncNever)
	if err != nil {
		t.Fatal(err)
	}

	log := slog.New(slog.DiscardHandler)
	service := daemon.NewService(setup(t, c), daemon.Config{
		Limits: c.Limits, Version: Version, Reload: c.Reload, Audit: records, Metrics: daemon.NewMetrics(Version), Log: log,
	})
	srv := server.New(service, server.Config{Limits: c.Limits, Log: log})
	l, err := server.ListenUnix(server.SocketConfig{Path: d.socket, Mode: 0o600, GID: -1})
	if err != nil {
		t.Fatal(err)
	}

	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }() // ends with Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), closeTimeout)
		defer cancel()
		check(t, "Server.Shutdown", srv.Shutdown(ctx))
		check(t, "Server.Serve", <-done)
		check(t, "Service.Close", service.Close(ctx))
		check(t, "Socket.Close", l.Close())
		check(t, "audit.Log.Close", records.Close())
	})
	return d
}

func check(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s() = %v", what, err)
	}
}

// Socket returns the path of the daemon's socket, which this user can open.
func (d *Daemon) Socket() string { return d.socket }

// AuditLog returns the path of the audit log. The record of a request is in it before the
// answer leaves.
func (d *Daemon) AuditLog() string { return d.audit }

// SocketPath returns a path at which there is no file yet, in a new directory that is
// removed with the test. The path is short: one below t.TempDir may not fit the 104 bytes
// of a socket's address on some systems.
func SocketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "signet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "s")
}
