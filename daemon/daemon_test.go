package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
		{signer.WithRetryAfter(signer.ErrInvalid, time.Second), ""}, // another try would fail, too
	}
	for _, tt := range tests {
		if got := respond("", 0, nil, tt.err).RetryAfter; got != tt.want {
			t.Errorf("Retry-After of %v = %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestRoutes(t *testing.T) {
	f := serve(t, Limits{})
	for path, rt := range entries {
		status, body := f.do(t, rt.Method, path, "{}")
		if status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status >= 500 {
			t.Errorf("%s %s = %d %s", rt.Method, path, status, body)
		}
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"} {
			if method == rt.Method {
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
	f := serve(t, Limits{})
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
	s := NewService(newSetup(t, openSoftware(t), NewMetrics("test")), Config{Audit: log, Metrics: NewMetrics("test"), Log: slog.New(slog.DiscardHandler)})
	for name, body := range map[string]string{"a JWT": `{"key":"oidc","claims":{"aud":"api"}}`, "a refusal": "{", "a batch": `{"batch":[{"key":"oidc","claims":{"aud":"api"}}]}`} {
		q := s.Begin(me())
		q.Method, q.Path, q.Body = http.MethodPost, api.SignJWT.Path, []byte(body)
		r := s.Answer(t.Context(), &q)
		if err := r.Commit(); !errors.Is(err, signer.ErrUnavailable) || !strings.Contains(err.Error(), "audit") {
			t.Errorf("%s: Commit() on a full disk = %v, want ErrUnavailable", name, err)
		}
		if r.Status != http.StatusServiceUnavailable || errorCode(t, string(r.Body)) != "unavailable" || r.RetryAfter == "" {
			t.Errorf("%s on a full disk: %d %s", name, r.Status, r.Body)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPanicIsInternal(t *testing.T) {
	f := serve(t, Limits{})
	for range 100 { // more than there are places: each is given back
		_, err := performList(t, f, func(context.Context, *call) (*api.Keys, error) { panic("boom") })
		if signer.Code(err) != signer.CodeInternal {
			t.Fatalf("an operation that panics = %v, want an internal error", err)
		}
	}
	data, err := os.ReadFile(f.audit)
	if err != nil || bytes.Count(data, []byte(`"outcome":"internal"`)) != 100 {
		t.Errorf("panics are not in the audit log: %v", err)
	}
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
