package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"signetd/backends/software"
	"signetd/daemon"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"signet": main})
}

// TestScripts runs the program against daemons with software keys: one that is
// well at $SIGNETD_SOCKET, one whose backend is down at $DOWN, one that grants
// nothing at $STRICT. At $STUCK somebody listens and never answers.
func TestScripts(t *testing.T) {
	well := serve(t, settings{grants: grants(), reload: func(context.Context) (int, error) { return 4, nil }})
	down := serve(t, settings{grants: grants(), ping: signer.ErrUnavailable})
	strict := serve(t, settings{})
	stuck, _ := listen(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("SIGNETD_SOCKET", well)
			env.Setenv("DOWN", down)
			env.Setenv("STRICT", strict)
			env.Setenv("STUCK", stuck)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status, "claims": claims, "fill": fill,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// status runs a program and checks its exit status: status 3 signet keys.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program [args]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		if _, scanErr := fmt.Sscanf(err.Error(), "exit status %d", &got); scanErr != nil {
			ts.Fatalf("%v", err)
		}
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

// claims writes a part of a JWS in compact form, decoded: claims token.jwt 0
// header.json.
func claims(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: claims token part file")
	}
	part := strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), ".")[args[1][0]-'0']
	data, err := base64.RawURLEncoding.DecodeString(part)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), data, 0o600))
}

// fill makes a file of n bytes: fill n file.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	var n int
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fill n file")
	}
	_, err := fmt.Sscan(args[0], &n)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Repeat("x", n)), 0o600))
}

// settings say what a daemon of this test is like.
type settings struct {
	grants []policy.Grant
	reload func(context.Context) (int, error)
	ping   error
}

// grants give this user everything but the key "hidden".
func grants() []policy.Grant {
	uid := uint32(os.Getuid())
	me := policy.Match{UID: &uid}
	return []policy.Grant{
		{Peer: me, Ops: []policy.Op{policy.OpSignJWT, policy.OpVerify}, Keys: []string{"oidc"}},
		{Peer: me, Ops: []policy.Op{policy.OpSignJWS}, Keys: []string{"files"}},
		{Peer: me, Ops: []policy.Op{policy.OpDecrypt, policy.OpEncrypt}, Keys: []string{"inbox"}},
		{Peer: me, Ops: []policy.Op{policy.OpEncryptJWK, policy.OpReload}},
	}
}

var keys = []struct {
	name, ref string
	algs      []signer.Alg
	jwt       *policy.JWT
}{
	{"oidc", "generate:ec-p256", []signer.Alg{signer.ES256}, &policy.JWT{Issuer: "https://id.example.com", Audiences: []string{"api"}, MaxTTL: 15 * time.Minute, Typ: "JWT"}},
	{"files", "generate:rsa-2048:files", []signer.Alg{signer.RS256, signer.PS256}, nil},
	{"inbox", "generate:rsa-2048:inbox", []signer.Alg{signer.RSAOAEP256}, nil},
	{"hidden", "generate:ec-p384", []signer.Alg{signer.ES384}, nil},
}

// backend is a software backend whose Ping answers as the test wants.
type backend struct {
	*software.Backend
	ping error
}

func (b backend) Ping(context.Context) error { return b.ping }

func setup(t *testing.T, s settings) daemon.Setup {
	t.Helper()
	soft, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var named []signer.NamedKey
	var known []policy.Key
	for _, k := range keys {
		private, err := soft.OpenKey(t.Context(), k.ref)
		if err != nil {
			t.Fatal(err)
		}
		v, err := signer.NewVersion(private, signer.VersionConfig{KID: k.name + "-1", Algs: k.algs, Backend: "soft"})
		if err != nil {
			t.Fatal(err)
		}
		named = append(named, signer.NamedKey{Name: k.name, Versions: []*signer.Version{v}})
		known = append(known, policy.Key{Name: k.name, Use: v.Use(), JWT: k.jwt})
	}
	ring, err := signer.NewRing(named)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New(known, s.grants)
	if err != nil {
		t.Fatal(err)
	}
	return daemon.Setup{Ring: ring, Policy: p, Backends: map[string]signer.Backend{"soft": backend{soft, s.ping}}}
}

// serve runs a daemon for as long as the test runs and returns its socket.
func serve(t *testing.T, s settings) (socket string) {
	t.Helper()
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit.jsonl"), audit.SyncNever)
	if err != nil {
		t.Fatal(err)
	}
	service := daemon.NewService(setup(t, s), daemon.Limits{}, log, daemon.NewMetrics("test"), slog.New(slog.DiscardHandler))
	srv := daemon.NewServer(service, daemon.ServerConfig{Version: "1.2.3-test", Reload: s.reload})
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

// listen listens on a new socket in a directory with a short name: t.TempDir may
// not fit the 104 bytes of a socket's address.
func listen(t *testing.T) (socket string, l net.Listener) {
	t.Helper()
	dir, err := os.MkdirTemp("", "signet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	if l, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return socket, l
}

func TestPosition(t *testing.T) {
	tests := []struct {
		text         string
		line, column int
	}{
		{"x", 1, 1},
		{`{"a":1,}`, 1, 8},
		{"{\n  \"a\": tru\n}", 2, 11},
		{"{\n", 1, 2}, // the end came too soon: the last byte
		{"", 1, 1},
	}
	for _, tt := range tests {
		var v any
		err := json.Unmarshal([]byte(tt.text), &v)
		var syntax *json.SyntaxError
		if !errors.As(err, &syntax) {
			t.Fatalf("Unmarshal(%q) = %v, want a syntax error", tt.text, err)
		}
		if line, column := position([]byte(tt.text), syntax.Offset); line != tt.line || column != tt.column {
			t.Errorf("position(%q, %d) = %d:%d, want %d:%d", tt.text, syntax.Offset, line, column, tt.line, tt.column)
		}
	}
}
