package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/client"
	"signetd/daemon/daemontest"
	"signetd/signer"
)

func TestErrors(t *testing.T) {
	tests := []struct {
		code   string
		status int
		want   error
	}{
		{"invalid", 400, signer.ErrInvalid},
		{"denied", 403, signer.ErrDenied},
		{"not_found", 404, signer.ErrNotFound},
		{"unsupported", 422, signer.ErrUnsupported},
		{"decrypt_failed", 422, signer.ErrDecrypt},
		{"overloaded", 429, signer.ErrOverloaded},
		{"unavailable", 503, signer.ErrUnavailable},
		{"deadline", 504, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			c := connect(t, respond(tt.status, api.ErrorResponse{Error: api.Error{Code: tt.code, Message: "words", RequestID: "r7"}}))
			_, err := c.DecryptJWE(t.Context(), api.DecryptJWERequest{})
			if !errors.Is(err, tt.want) {
				t.Errorf("DecryptJWE() = %v, want %v", err, tt.want)
			}

			var refused *client.Error
			if !errors.As(err, &refused) || refused.Status != tt.status || refused.RequestID != "r7" || refused.Message != "words" {
				t.Errorf("DecryptJWE() = %#v, want a *client.Error", err)
			}
			if signer.Code(err) != tt.code {
				t.Errorf("Code() = %q, want %q", signer.Code(err), tt.code)
			}
		})
	}
}

func TestErrorText(t *testing.T) {
	tests := []struct {
		err  client.Error
		want string
	}{
		{client.Error{Code: "denied", Message: "denied: sign-jwt", RequestID: "r7"}, "denied: sign-jwt (request r7)"},
		{client.Error{Code: "internal", RequestID: "r7"}, "internal (request r7)"},
		{client.Error{Code: "decrypt_failed", Message: "bad padding", RequestID: "r7"}, "decryption failed"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("Error() = %q, want %q", got, tt.want)
		}
	}
}

func TestInternalError(t *testing.T) {
	c := connect(t, respond(500, api.ErrorResponse{Error: api.Error{Code: "internal", Message: "internal error", RequestID: "r7"}}))
	_, err := c.Keys(t.Context())
	if err == nil || errors.Unwrap(err) != nil || !strings.Contains(err.Error(), "r7") {
		t.Errorf("Keys() = %v, want an error without a sentinel and with the request's id", err)
	}
}

func TestStrangerAnswers(t *testing.T) {
	c := connect(t, http.NotFoundHandler())
	_, err := c.Keys(t.Context())
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Status != 404 || errors.Is(err, signer.ErrNotFound) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("Keys() = %v, want an error that asks which program listens", err)
	}
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{"2": 2 * time.Second, "": 0, "-1": 0, "soon": 0} {
		c := connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", header)
			respond(429, api.ErrorResponse{Error: api.Error{Code: "overloaded"}}).ServeHTTP(w, r)
		}))
		_, err := c.Keys(t.Context())
		var refused *client.Error
		if !errors.As(err, &refused) || refused.RetryAfter != want {
			t.Errorf("Retry-After %q: Keys() = %#v, want %v", header, err, want)
		}
	}
}

func TestNoDaemon(t *testing.T) {
	missing := daemontest.SocketPath(t)
	dead := daemontest.SocketPath(t)

	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()

	plain := daemontest.SocketPath(t)
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name, socket string
		cause        error
	}{
		{"no file", missing, syscall.ENOENT},
		{"no process listens", dead, syscall.ECONNREFUSED},
		{"no socket", plain, syscall.ECONNREFUSED},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := client.New(client.Config{Socket: tt.socket}).Health(t.Context())
			if !errors.Is(err, signer.ErrUnavailable) || !errors.Is(err, tt.cause) {
				t.Errorf("Health() = %v, want ErrUnavailable for %v", err, tt.cause)
			}
			if want := "no daemon answers on " + tt.socket + ": is it running?"; err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("Health() = %v, want %q in it", err, want)
			}
		})
	}
}
