package client_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signetd/daemon/api"
	"signetd/daemon/client"
	"signetd/daemon/daemontest"
	"signetd/signer"
)

// respond returns a handler that gives every request the same answer.
func respond(status int, body any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	})
}

func TestCalls(t *testing.T) {
	c, ctx := connectDaemon(t), t.Context()
	signed, err := c.SignJWT(ctx, api.SignJWTRequest{Key: "oidc", Claims: json.RawMessage(`{"aud":"api", "sub":"alice & <bob>"}`), TTL: 30})
	if err != nil {
		t.Fatal(err)
	}

	const asSent = `{"aud":"api","sub":"alice & <bob>",`
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(signed.Token, ".")[1])
	if err != nil || !strings.HasPrefix(string(payload), asSent) {
		t.Errorf("claims signed: %s, %v; want them to begin with %s", payload, err, asSent)
	}

	verified, err := c.VerifyJWT(ctx, api.VerifyJWTRequest{Token: signed.Token, Audience: "api"})
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ Sub string }
	if err := json.Unmarshal(verified.Claims, &claims); err != nil || claims.Sub != "alice & <bob>" {
		t.Errorf("claims = %s, %v", verified.Claims, err)
	}
	if want := (api.JWSHeader{Alg: "ES256", KID: signed.KID, Typ: "JWT"}); verified.Header != want || verified.Key != "oidc" {
		t.Errorf("VerifyJWT() = %+v, %q, want %+v", verified.Header, verified.Key, want)
	}

	sealed, err := c.EncryptJWE(ctx, api.EncryptJWERequest{Key: "inbox", Plaintext: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := c.DecryptJWE(ctx, api.DecryptJWERequest{JWE: sealed.JWE})
	if err != nil || string(opened.Plaintext) != "hello" || opened.KID != sealed.KID {
		t.Errorf("DecryptJWE() = %+v, %v", opened, err)
	}

	jws, err := c.SignJWS(ctx, api.SignJWSRequest{Key: "rsa", Payload: []byte("bytes"), Alg: "PS256"})
	if err != nil || jws.JWS != jws.Protected+".Ynl0ZXM."+jws.Signature {
		t.Errorf("SignJWS() = %+v, %v", jws, err)
	}
}

func TestAsk(t *testing.T) {
	c, ctx := connectDaemon(t), t.Context()
	keys, err := c.Keys(ctx)
	if err != nil || len(keys.Keys) != len(testKeys)-1 {
		t.Fatalf("Keys() = %+v, %v; want all but the hidden one", keys, err)
	}

	one, err := c.Key(ctx, "es256")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&keys.Keys[0], one); diff != "" {
		t.Errorf("Key() differs from Keys() (-list +one):\n%s", diff)
	}

	if set, err := c.JWKS(ctx); err != nil || len(set.Key(one.Versions[0].KID)) != 1 {
		t.Errorf("JWKS() = %+v, %v", set, err)
	}
	if h, err := c.Health(ctx); err != nil || h.Status != "ok" {
		t.Errorf("Health() = %+v, %v", h, err)
	}
	if v, err := c.Version(ctx); err != nil || v.Version != daemontest.Version {
		t.Errorf("Version() = %+v, %v", v, err)
	}
	if r, err := c.Reload(ctx); err != nil || r.Keys != len(testKeys) {
		t.Errorf("Reload() = %+v, %v", r, err)
	}

	ready, err := c.Ready(ctx)
	if diff := cmp.Diff(&api.Ready{Ready: true, Backends: map[string]string{"soft": "ok"}}, ready); err != nil || diff != "" {
		t.Errorf("Ready() = %v (-want +got):\n%s", err, diff)
	}
}

// TestReady asks a daemon that is not ready: that is not an error, although the status of
// the answer is 503.
func TestReady(t *testing.T) {
	want := &api.Ready{Backends: map[string]string{"hsm": "unavailable", "kms": "ok"}}
	got, err := connect(t, respond(http.StatusServiceUnavailable, want)).Ready(t.Context())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Ready() = %v (-want +got):\n%s", err, diff)
	}

	c := connect(t, respond(http.StatusServiceUnavailable, api.ErrorResponse{Error: api.Error{Code: "unavailable"}}))
	if ready, err := c.Ready(t.Context()); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("Ready() = %+v, %v, want ErrUnavailable", ready, err)
	}
}

func TestSocketFromEnvironment(t *testing.T) {
	t.Setenv(client.SocketEnv, "/from/env")
	for _, tt := range []struct{ config, want string }{{"", "/from/env"}, {"/given", "/given"}} {
		if got := client.New(client.Config{Socket: tt.config}).Socket(); got != tt.want {
			t.Errorf("New(%q).Socket() = %q, want %q", tt.config, got, tt.want)
		}
	}
	t.Setenv(client.SocketEnv, "")
	if got := client.New(client.Config{}).Socket(); got != api.DefaultSocket {
		t.Errorf("New().Socket() = %q, want %q", got, api.DefaultSocket)
	}
}

func TestKeepsConnections(t *testing.T) {
	var made atomic.Int32
	srv := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler:           respond(http.StatusOK, api.Health{Status: "ok"}),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				made.Add(1)
			}
		},
	}
	socket, l := listen(t)
	go func() { _ = srv.Serve(l) }() // until Close
	t.Cleanup(func() { _ = srv.Close() })

	c := client.New(client.Config{Socket: socket})
	for range 20 {
		if _, err := c.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := made.Load(); n != 1 {
		t.Errorf("20 calls made %d connections, want 1", n)
	}
}

// script serves a socket by hand: the n-th function serves the n-th connection, which is
// closed when the function returns. seen counts the connections.
func script(t *testing.T, replies ...func(net.Conn)) (socket string, seen *atomic.Int32) {
	t.Helper()
	socket, l := listen(t)
	seen = new(atomic.Int32)
	t.Cleanup(func() { _ = l.Close() })
	go func() { // until the listener is closed
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n := int(seen.Add(1)) - 1
			if n < len(replies) {
				replies[n](conn)
			}
			conn.Close()
		}
	}()
	return socket, seen
}

// reads returns a function that reads a request and writes the text, for each text.
func reads(texts ...string) func(net.Conn) {
	return func(conn net.Conn) {
		br := bufio.NewReader(conn)
		for _, text := range texts {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(conn, text)
		}
	}
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{\"token\":\"t\",\"kid\":\"kid\"}"

func TestRetry(t *testing.T) {
	hangUp := func(net.Conn) {} // it reads nothing, so the client sees a reset
	tests := []struct {
		name    string
		replies []func(net.Conn)
		calls   int
		want    error
		conns   int32
	}{
		{"kept connection closed, then a new one", []func(net.Conn){reads(okAnswer), reads(okAnswer)}, 2, nil, 2},
		{"request read and connection closed", []func(net.Conn){reads(""), reads(okAnswer)}, 1, nil, 2},
		{"new connection closed unread", []func(net.Conn){hangUp, reads(okAnswer)}, 1, nil, 2},
		{"closed twice", []func(net.Conn){reads(""), reads(""), reads(okAnswer)}, 1, signer.ErrUnavailable, 2},
		{"answer cut in the header", []func(net.Conn){reads("HTTP/1.1 200"), reads(okAnswer)}, 1, signer.ErrUnavailable, 1},
		{"answer cut in the body", []func(net.Conn){reads(okAnswer[:60]), reads(okAnswer)}, 1, signer.ErrUnavailable, 1},
		{"no HTTP", []func(net.Conn){reads("SSH-2.0-x\r\n"), reads(okAnswer)}, 1, signer.ErrUnavailable, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket, seen := script(t, tt.replies...)
			c := client.New(client.Config{Socket: socket})
			t.Cleanup(func() { _ = c.Close() })

			var err error
			for range tt.calls {
				_, err = c.SignJWT(t.Context(), api.SignJWTRequest{Key: "k", Claims: json.RawMessage("{}")})
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("SignJWT() = %v, want %v", err, tt.want)
			}
			if n := seen.Load(); n != tt.conns {
				t.Errorf("%d connections, want %d", n, tt.conns)
			}
		})
	}
}

func TestContext(t *testing.T) {
	block := make(chan struct{})
	c := connect(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	}))
	defer close(block)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Health(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Health(short deadline) = %v, want context.DeadlineExceeded", err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := c.Health(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Health(cancelled on the way) = %v, want context.Canceled", err)
	}

	impatient := client.New(client.Config{Socket: c.Socket(), Timeout: 20 * time.Millisecond})
	if _, err := impatient.Health(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Health() with a short Config.Timeout = %v, want context.DeadlineExceeded", err)
	}
}

func TestClosed(t *testing.T) {
	c := connectDaemon(t)
	s, err := c.Signer(t.Context(), "es256")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Health(t.Context()); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("Health() = %v, want ErrUnavailable", err)
	}
	if _, err := s.SignContext(t.Context(), make([]byte, 32), signer.ES256.SignerOpts()); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("SignContext() = %v, want ErrUnavailable", err)
	}
}

func TestAnswerTooLong(t *testing.T) {
	c := connect(t, respond(http.StatusOK, api.Version{Version: strings.Repeat("v", 5<<20)}))
	if _, err := c.Version(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("Version() = %v, want an error about the length", err)
	}
}

func TestAnswerIsNoAPI(t *testing.T) {
	const part = "c2VjcmV0"
	c := connect(t, respond(http.StatusOK, []string{part}))
	_, err := c.UnwrapCEK(t.Context(), api.UnwrapCEKRequest{})
	if err == nil || strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), "different versions") {
		t.Errorf("UnwrapCEK() = %v, want an error without the answer", err)
	}
}

// TestDecryptUniform holds that a JWE gives the same error with the same text, wherever it
// is damaged.
func TestDecryptUniform(t *testing.T) {
	c := connectDaemon(t)
	sealed, err := c.EncryptJWE(t.Context(), api.EncryptJWERequest{Key: "inbox", Plaintext: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		parts := strings.Split(sealed.JWE, ".")
		parts[i] = strings.Repeat("A", len(parts[i]))
		_, err := c.DecryptJWE(t.Context(), api.DecryptJWERequest{JWE: strings.Join(parts, ".")})
		if !errors.Is(err, signer.ErrDecrypt) || err.Error() != signer.ErrDecrypt.Error() {
			t.Errorf("DecryptJWE(part %d damaged) = %v, want ErrDecrypt and no more", i, err)
		}
	}
}

func TestBadClaims(t *testing.T) {
	_, err := connectDaemon(t).SignJWT(t.Context(), api.SignJWTRequest{Key: "oidc", Claims: json.RawMessage(`{"sub":`)})
	var refused *client.Error
	if !errors.Is(err, signer.ErrInvalid) || errors.As(err, &refused) {
		t.Errorf("SignJWT(half an object) = %v, want ErrInvalid without a call of the daemon", err)
	}
}
