package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"signetd/daemon/api"
	"signetd/daemon/daemontest"
	"signetd/daemon/policy"
	"signetd/signer"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"signet": main})
}

// TestScripts runs the program against daemons with software keys: one that works at
// $SIGNETD_SOCKET, one whose backend is down at $DOWN, and one that grants nothing at
// $STRICT. The socket $STUCK accepts connections and never answers.
func TestScripts(t *testing.T) {
	reload := func(context.Context) (int, error) { return len(keys), nil }
	well := daemontest.New(t, daemontest.Config{Keys: keys, Ops: hostOps, Reload: reload})
	down := daemontest.New(t, daemontest.Config{Keys: keys, Ops: hostOps, Ping: signer.ErrUnavailable})
	strict := daemontest.New(t, daemontest.Config{Keys: ungranted()})
	stuck := listen(t)

	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("SIGNETD_SOCKET", well.Socket())
			env.Setenv("DOWN", down.Socket())
			env.Setenv("STRICT", strict.Socket())
			env.Setenv("STUCK", stuck)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status, "claims": claims, "fill": fill, "verifymac": verifyMAC,
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

// verifyMAC makes the MAC of a file and verifies it: verifymac key file.
func verifyMAC(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: verifymac key file")
	}

	ts.Check(ts.Exec("signet", "mac", args[0], args[1]))
	ts.Check(ts.Exec("signet", "mac", args[0], args[1], "--verify", strings.TrimSpace(ts.ReadFile("stdout"))))
	if got := ts.ReadFile("stdout"); got != "ok: made by "+args[0]+"-1\n" {
		ts.Fatalf("signet mac --verify prints %q", got)
	}
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

var keys = []daemontest.Key{
	{
		Name: "oidc", KID: "oidc-1", Algs: []signer.Alg{signer.ES256}, Ops: []api.Op{api.OpSignJWT, api.OpSealJWT, api.OpVerify},
		JWT: &policy.JWT{Issuer: "https://id.example.com", Audiences: []string{"api"}, MaxTTL: 15 * time.Minute, Typ: "JWT"},
	},
	{Name: "files", KID: "files-1", Algs: []signer.Alg{signer.RS256, signer.PS256}, Ops: []api.Op{api.OpSignJWS, api.OpVerifyJWS}},
	{Name: "inbox", KID: "inbox-1", Algs: []signer.Alg{signer.RSAOAEP256}, Ops: []api.Op{api.OpDecrypt, api.OpOpenJWT, api.OpEncrypt}},
	{Name: "webhooks", KID: "webhooks-1", Algs: []signer.Alg{signer.HS256}, Ops: []api.Op{api.OpSignMAC, api.OpVerifyMAC}},
	{Name: "kek", KID: "kek-1", Algs: []signer.Alg{signer.A128KW}, Ops: []api.Op{api.OpWrapKey, api.OpUnwrapKey}},
	{Name: "hidden", KID: "hidden-1", Algs: []signer.Alg{signer.ES384}},
}

// hostOps are what this user may do besides, but with the daemon that grants nothing.
var hostOps = []api.Op{api.OpEncryptJWK, api.OpReload}

// ungranted returns the keys without a grant for this user.
func ungranted() []daemontest.Key {
	bare := slices.Clone(keys)
	for i := range bare {
		bare[i].Ops = nil
	}
	return bare
}

// listen returns a socket that accepts connections and never answers.
func listen(t *testing.T) (socket string) {
	t.Helper()
	socket = daemontest.SocketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return socket
}

func TestPosition(t *testing.T) {
	tests := []struct {
		text         string
		line, column int
	}{
		{"x", 1, 1},
		{`{"a":1,}`, 1, 8},
		{"{\n  \"a\": tru\n}", 2, 11},
		{"{\n", 1, 2}, // the input ends too soon: the position of its last byte
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
