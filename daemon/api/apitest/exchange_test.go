package apitest_test

import (
	"net/http"
	"testing"

	"signetd/daemon/api/apitest"
)

const (
	signed = `{"token":"eyJh.eyJh.c2ln","kid":"k"}`
	denied = `{"error":{"code":"denied","message":"denied","request_id":"0123456789abcdef"}}`
	full   = `{"error":{"code":"overloaded","message":"overloaded","request_id":"0123456789abcdef"}}`
)

// What differs from the description in any part is found. The table makes it long.
func TestCheck(t *testing.T) {
	d, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name              string
		method, path      string
		request, response string
		status            int
		retry             string
		ok                bool
	}{
		{"as described", "POST", "/v1/jwt/sign", `{"key":"k","claims":{}}`, signed, 200, "", true},
		{"denied", "POST", "/v1/jwt/sign", `no matter`, denied, 403, "", true},
		{"a name in the path", "GET", "/v1/keys/k", "", denied, 403, "", true},
		{"no such path", "GET", "/v2", "", `{"error":{"code":"not_found","message":"m","request_id":"0123456789abcdef"}}`, 404, "", true},
		{"a query", "GET", "/v1/health?x=y", "", `{"status":"ok"}`, 200, "", true},
		{"reload without a body", "POST", "/v1/admin/reload", "", `{"keys":3}`, 200, "", true},
		{"with Retry-After", "GET", "/v1/health", "", full, 429, "1", true},

		{"a batch", "POST", "/v1/jwt/sign", `{"batch":[{"key":"k","claims":{}}]}`, `{"results":[` + signed + `]}`, 200, "", true},
		{"a batch with a bad request, which is refused", "POST", "/v1/jwt/sign", `{"batch":[{"key":"k","claims":{}},7]}`, `{"results":[` + signed + `,` + denied + `]}`, 200, "", true},

		{"a batch with a bad request, which is answered", "POST", "/v1/jwt/sign", `{"batch":[{"key":"k","claims":{}},{}]}`, `{"results":[` + signed + `,` + signed + `]}`, 200, "", false},
		{"a batch with an answer too few", "POST", "/v1/jwt/sign", `{"batch":[{"key":"k","claims":{}},{"key":"k","claims":{}}]}`, `{"results":[` + signed + `]}`, 200, "", false},
		{"a batch with another answer", "POST", "/v1/jwt/sign", `{"batch":[{"key":"k","claims":{}}]}`, `{"results":[{"mac":"YQ","kid":"k"}]}`, 200, "", false},
		{"a batch of reloads", "POST", "/v1/admin/reload", `{"batch":[{}]}`, `{"results":[{"keys":3}]}`, 200, "", false},
		{"without Retry-After", "GET", "/v1/health", "", full, 429, "", false},
		{"another code", "GET", "/v1/health", "", denied, 429, "1", false},
		{"a status that it has not", "POST", "/v1/jwt/sign", "{}", denied, 401, "", false},
		{"a request with another member", "POST", "/v1/jwt/sign", `{"key":"k","claims":{},"x":1}`, signed, 200, "", false},
		{"a request without a member", "POST", "/v1/jwt/sign", `{"key":"k"}`, signed, 200, "", false},
		{"a request without a body", "POST", "/v1/jwt/sign", "", signed, 200, "", false},
		{"a request with padding", "POST", "/v1/jws/sign", `{"key":"k","payload":"YQ=="}`, `{"jws":"a","protected":"YQ","signature":"YQ","kid":"k"}`, 200, "", false},
		{"an answer with spare bits", "POST", "/v1/jws/sign", `{"key":"k","payload":"YQ"}`, `{"jws":"a","protected":"YR","signature":"YQ","kid":"k"}`, 200, "", false},
		{"an answer with another member", "POST", "/v1/jwt/sign", `{"key":"k","claims":{}}`, `{"token":"eyJh.eyJh.c2ln","kid":"k","x":1}`, 200, "", false},
		{"an answer without a member", "POST", "/v1/jwt/sign", `{"key":"k","claims":{}}`, `{"token":"eyJh.eyJh.c2ln"}`, 200, "", false},
		{"an answer that is no JSON", "POST", "/v1/jwt/sign", `{"key":"k","claims":{}}`, `no`, 200, "", false},
		{"a private key", "GET", "/v1/jwks", "", `{"keys":[{"kty":"EC","d":"YQ"}]}`, 200, "", false},
		{"a secret key", "GET", "/v1/jwks", "", `{"keys":[{"kty":"oct","k":"YQ"}]}`, 200, "", false},
		{"an answer on no path", "GET", "/v2", "", `{"status":"ok"}`, 200, "", false},
	}
	for _, tt := range tests {
		h := http.Header{"Content-Type": {"application/json"}, "Request-Id": {"0123456789abcdef"}}
		if tt.retry != "" {
			h.Set("Retry-After", tt.retry)
		}
		err := d.Check(apitest.Exchange{Method: tt.method, Path: tt.path, Request: []byte(tt.request), Status: tt.status, Header: h, Response: []byte(tt.response)})
		if (err == nil) != tt.ok {
			t.Errorf("Check(%s) = %v, want it to pass: %t", tt.name, err, tt.ok)
		}
	}
	h := http.Header{"Content-Type": {"application/json"}}
	if d.Check(apitest.Exchange{Method: "GET", Path: "/v1/health", Status: 200, Header: h, Response: []byte(`{"status":"ok"}`)}) == nil {
		t.Error("Check() of an answer without Request-Id passes")
	}
}
