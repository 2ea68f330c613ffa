package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/signer"
)

func TestEveryCodeHasAStatus(t *testing.T) {
	for _, err := range []error{
		signer.ErrInvalid, signer.ErrDenied, signer.ErrNotFound, signer.ErrUnsupported, signer.ErrDecrypt,
		signer.ErrOverloaded, signer.ErrUnavailable, context.DeadlineExceeded, errors.New("a bug"),
	} {
		if statuses[signer.Code(err)] < 400 {
			t.Errorf("%v: status %d", err, statuses[signer.Code(err)])
		}
	}
}

func TestRetryAfter(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{signer.ErrOverloaded, "1"},
		{signer.WithRetryAfter(signer.ErrOverloaded, 100*time.Millisecond), "1"},
		{signer.WithRetryAfter(signer.ErrUnavailable, 1001*time.Millisecond), "2"},
		{fmt.Errorf("sign: %w", signer.WithRetryAfter(signer.ErrOverloaded, 7*time.Second)), "7"},
		{signer.WithRetryAfter(signer.ErrInvalid, time.Second), ""}, // another try comes to the same
	}
	for _, tt := range tests {
		if got := fail(&request{}, tt.err).retryAfter; got != tt.want {
			t.Errorf("Retry-After of %v = %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestRoutes(t *testing.T) {
	f := serve(t, Limits{})
	for path, rt := range routes {
		status, body := f.do(t, rt.method, path, "{}")
		if status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status >= 500 {
			t.Errorf("%s %s = %d %s", rt.method, path, status, body)
		}
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"} {
			if method == rt.method {
				continue
			}
			if status, _ := f.do(t, method, path, ""); status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s = %d, want 405", method, path, status)
			}
		}
	}
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/jwt/sign/", "//v1/jwks", "/v1/../v1/jwks", "/v1/keys/", "/V1/jwks"} {
		if status, body := f.do(t, "GET", path, ""); status != http.StatusNotFound || errorCode(t, body) != "not_found" {
			t.Errorf("GET %s = %d %s, want 404", path, status, body)
		}
	}
}

func TestDecodeIsStrict(t *testing.T) {
	f := serve(t, Limits{RequestBytes: 4096})
	const secret = "hunter2-hunter2"
	tests := map[string]string{
		"unknown member":                   `{"key":"oidc","claims":{},"` + "x" + `":"` + secret + `"}`,
		"another case":                     `{"Key":"` + secret + `","claims":{}}`,
		"twice":                            `{"key":"oidc","key":"` + secret + `"}`,
		"twice in claims":                  `{"key":"oidc","claims":{"a":1,"a":"` + secret + `"}}`,
		"wrong type":                       `{"key":["` + secret + `"]}`,
		"alg and kid are not the caller's": `{"key":"oidc","claims":{"aud":"api"},"header":{"kid":"` + secret + `"}}`,
		"ttl a string":                     `{"key":"oidc","claims":{"aud":"api"},"ttl":"` + secret + `"}`,
		"ttl a fraction":                   `{"key":"oidc","claims":{"aud":"api"},"ttl":1.5}`,
		"two values":                       `{"key":"oidc"} {"key":"` + secret + `"}`,
		"cut short":                        `{"key":"` + secret,
		"array":                            `["` + secret + `"]`,
		"empty":                            ``,
		"invalid UTF-8":                    "{\"key\":\"\xff" + secret + "\"}",
		"too long":                         `{"key":"` + strings.Repeat(secret, 400) + `"}`,
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			status, answer := f.do(t, "POST", api.SignJWT.Path, body)
			if status != http.StatusBadRequest || errorCode(t, answer) != "invalid" {
				t.Errorf("status %d %s, want 400 invalid", status, answer)
			}
			if strings.Contains(answer, secret) {
				t.Errorf("the answer %s echoes the request", answer)
			}
		})
	}
	status, answer := f.do(t, "POST", api.SignJWT.Path, "{\"key\":\"oidc\",\"claims\":{\"aud\":\"api\"}}\n")
	if status != http.StatusOK {
		t.Errorf("a good request = %d %s", status, answer)
	}
	data, err := os.ReadFile(f.audit)
	if err != nil || bytes.Contains(data, []byte(secret)) || bytes.Count(data, []byte("\n")) != len(tests)+1 {
		t.Errorf("the audit log has %d records, want %d, or echoes a request: %v", bytes.Count(data, []byte("\n")), len(tests)+1, err)
	}
}

// TestWithheld: what cannot be recorded is not answered.
func TestWithheld(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}
	log, err := audit.Open("/dev/full", audit.SyncNever)
	if err != nil {
		t.Fatal(err)
	}
	m := NewMetrics("test")
	s := NewService(newSetup(t, openSoftware(t), m), Limits{}, log, m, slog.New(slog.DiscardHandler))
	r := NewRequest(me())
	answer, err := s.SignJWT(t.Context(), r, &api.SignJWTRequest{Key: "oidc", Claims: json.RawMessage(`{"aud":"api"}`)})
	if answer != nil || !errors.Is(err, signer.ErrUnavailable) || !strings.Contains(err.Error(), "audit") {
		t.Errorf("SignJWT() on a full disk = %v, %v; want ErrUnavailable", answer, err)
	}
	if err := s.refuse(t.Context(), r, api.OpSignJWT, signer.ErrInvalid); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("refuse() on a full disk = %v, want ErrUnavailable", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPanicIsInternal(t *testing.T) {
	f := serve(t, Limits{})
	r := NewRequest(me())
	for range 100 { // more than there are slots: each is given back
		_, err := do(t.Context(), f.service, r, api.OpList, "", func(context.Context, *call) (*api.Keys, error) { panic("boom") })
		if signer.Code(err) != signer.CodeInternal {
			t.Fatalf("an operation that panics = %v, want an internal error", err)
		}
	}
	data, err := os.ReadFile(f.audit)
	if err != nil || bytes.Count(data, []byte(`"outcome":"internal"`)) != 100 {
		t.Errorf("panics are not in the audit log: %v", err)
	}
}

// TestBytes sends what is no request.
func TestBytes(t *testing.T) {
	f := serve(t, Limits{Timeout: 500 * time.Millisecond})
	long := strings.Repeat("x", 20000)
	tests := map[string]string{
		"garbage":          "GARBAGE\r\n\r\n",
		"nothing":          "\r\n\r\n",
		"zeros":            strings.Repeat("\x00", 512),
		"TLS":              "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"HTTP/2":           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"HTTP/3.7":         "GET / HTTP/3.7\r\nHost: x\r\n\r\n",
		"no host":          "GET /v1/jwks HTTP/1.1\r\n\r\n",
		"long line":        "GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"long header":      "GET /v1/jwks HTTP/1.1\r\nHost: x\r\nX: " + long + "\r\n\r\n",
		"two lengths":      "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"negative length":  "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\n\r\n{}",
		"length and chunk": "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
		"bad chunk":        "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
		"unknown coding":   "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n{}",
		"half a header":    "POST /v1/jwt/sign HTTP/1.1\r\nHos",
		"half a body":      "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"key\":",
		"expectation":      "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nExpect: magic\r\nContent-Length: 2\r\n\r\n{}",
		"CONNECT":          "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
		"upgrade":          "GET /v1/jwks HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
	}
	for name, input := range tests {
		t.Run(name, func(t *testing.T) {
			c := f.dial(t)
			if _, err := io.WriteString(c, input); err != nil {
				t.Fatal(err)
			}
			checkAnswers(t, c)
		})
	}
	if status, body := f.do(t, "GET", api.GetHealth.Path, ""); status != http.StatusOK {
		t.Errorf("afterwards: %d %s", status, body)
	}
}

// checkAnswers reads all that comes on c until it is closed or silent: each is an
// HTTP answer with a JSON body, and typed if it is an error.
func checkAnswers(t testing.TB, c net.Conn) {
	t.Helper()
	if u, ok := c.(*net.UnixConn); ok {
		_ = u.CloseWrite() // it may be closed already
	}
	r := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(r, nil)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && r.Buffered() == 0 {
			return
		}
		var closed *net.OpError
		if errors.As(err, &closed) && !closed.Timeout() {
			return
		}
		if err != nil {
			t.Fatalf("neither an answer nor a closed connection: %v", err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !json.Valid(body) && resp.StatusCode != http.StatusContinue {
			t.Fatalf("status %d with body %q, %v", resp.StatusCode, body, err)
		}
		if resp.StatusCode >= 400 {
			errorCode(t, string(body))
		}
	}
}

// FuzzConnection sends any bytes on a connection.
func FuzzConnection(f *testing.F) {
	for _, s := range []string{
		"GET /v1/jwks HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Length: 41\r\n\r\n{\"key\":\"oidc\",\"claims\":{\"aud\":\"api\"}}   ",
		"POST /v1/jwe/decrypt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n{\"jwe\":\"a.b\"}\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
		"GARBAGE\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	server := serve(f, Limits{Timeout: 2 * time.Second})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := net.Dial("unix", server.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(data) // the daemon may hang up in the middle of it
		checkAnswers(t, c)
	})
}

// FuzzDecode holds the strict decoder against encoding/json: what it takes,
// encoding/json takes too, unknown members refused, and reads as the same.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"key":"oidc","claims":{"aud":"api"},"ttl":60,"header":{"typ":"JWT"}}`, `{"key":"a","key":"b"}`, `{"Key":"a"}`, `{"key":"a"}x`,
		`{"jwe":"a.b.c.d.e","key":"inbox"}`, `{"key":"k","alg":"ES256","digest":"AAAA","kid":"x"}`, `{"plaintext":"AA==","key":"x"}`,
		`{"recipient":{"kty":"RSA","n":"AQAB","e":"AQAB"},"plaintext":"AA"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		agree[api.SignJWTRequest](t, body)
		agree[api.SignJWSRequest](t, body)
		agree[api.SignDigestRequest](t, body)
		agree[api.UnwrapCEKRequest](t, body)
		agree[api.DecryptJWERequest](t, body)
		agree[api.EncryptJWERequest](t, body)
		agree[api.VerifyJWTRequest](t, body)
		agree[api.VerifyJWSRequest](t, body)
		agree[api.SealJWTRequest](t, body)
		agree[api.OpenJWTRequest](t, body)
		agree[api.SignMACRequest](t, body)
		agree[api.VerifyMACRequest](t, body)
		agree[api.WrapKeyRequest](t, body)
		agree[api.UnwrapKeyRequest](t, body)
	})
}

func agree[Q any](t *testing.T, body []byte) {
	t.Helper()
	var strict, lax Q
	if err := decode(body, &strict); err != nil {
		if !errors.Is(err, signer.ErrInvalid) {
			t.Fatalf("decode(%q) = %v, want ErrInvalid", body, err)
		}
		return
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&lax); err != nil {
		t.Fatalf("%T: decode takes %q and encoding/json does not: %v", strict, body, err)
	}
	one, err := json.Marshal(strict)
	if err != nil {
		t.Fatal(err)
	}
	other, err := json.Marshal(lax)
	if err != nil || !bytes.Equal(one, other) {
		t.Fatalf("%T: decode reads %q as %s, encoding/json as %s, %v", strict, body, one, other, err)
	}
}

// A tardyListener is one whose Accept takes its time to notice a Close.
type tardyListener struct {
	net.Listener
	closed chan struct{}
}

func (l *tardyListener) Accept() (net.Conn, error) {
	<-l.closed
	time.Sleep(50 * time.Millisecond)
	return nil, net.ErrClosed
}

func (l *tardyListener) Close() error {
	select {
	case <-l.closed:
		return net.ErrClosed
	default:
		close(l.closed)
		return nil
	}
}

// TestShutdownClosesOnce: that the daemon closed a listener before net/http does
// is no error.
func TestShutdownClosesOnce(t *testing.T) {
	s := NewServer(serve(t, Limits{}).service, ServerConfig{})
	l := &tardyListener{closed: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }() // ends with Shutdown
	for tracked := false; !tracked; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		tracked = len(s.listeners) > 0
		s.mu.Unlock()
	}
	time.Sleep(50 * time.Millisecond) // for net/http to have it, too
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve() = %v", err)
	}
}
