// Package daemontest runs a real daemon over software keys, for the tests of
// programs that use one: the same policy, audit log, limits and socket, and
// nothing to install.
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
// A program that takes the socket from its environment is pointed at it by
// client.SocketEnv. For a token behind PKCS#11 see package signetd/softhsm.
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

// Version is what the daemon of a test says its version is.
const Version = "1.2.3-test"

// closeTimeout is how long the daemon may take to stop when the test has ended.
const closeTimeout = 5 * time.Second

// A Config says what the daemon of a test is like.
type Config struct {
	// Keys are the keys of the daemon: one or more, with names of their own.
	Keys []Key
	// Ops are what the user who runs the test may do beside what Keys say: the
	// operations that are not on a key.
	Ops []api.Op
	// Issuers are trusted, and the user who runs the test may verify and verify-jws with
	// each of them.
	Issuers []daemon.Issuer
	// Recipients may be encrypted to by the user who runs the test.
	Recipients []daemon.Recipient
	// Limits are the daemon's; a field that is zero has its default.
	Limits daemon.Limits
	// Reload is called by the operation reload. Nil is a daemon without a config
	// file.
	Reload func(context.Context) (keys int, err error)
	// Ping is what the backend says of itself: ErrUnavailable makes a daemon that is
	// not ready. Keys are used nevertheless.
	Ping error
}

// A Key is one key of the daemon, with one version, made for the test.
type Key struct {
	Name string
	// Algs are the algorithms that the key is pinned to, the default first. They
	// say what sort of key it is: RSA keys have 2048 bits.
	Algs []signer.Alg
	// KID is the kid of the version, and the RFC 7638 thumbprint if it is empty.
	KID string
	// JWT are the claim rules, or nil for a key that has none.
	JWT *policy.JWT
	// Ops are what the user who runs the test may do with the key. With none, the
	// daemon answers as if the key did not exist.
	Ops []api.Op
}

// A Daemon serves until the test that made it has ended.
type Daemon struct {
	socket string
	audit  string
}

// New starts a daemon on a socket of its own. When the test has ended the daemon
// stops, and the test fails if it cannot.
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

// AuditLog returns the path of the audit log. Each record is in it before the
// answer leaves.
func (d *Daemon) AuditLog() string { return d.audit }

// SocketPath returns a path at which nothing is yet, in a new directory that goes
// with the test. It is short: t.TempDir may not fit the 104 bytes that a socket's
// address has on some systems.
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
