//go:build !noaws

package awskms_test

import (
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"signetd/backends/awskms"
	"signetd/backends/awskms/awskmstest"
	"signetd/signer"
)

// A sts is as much of AWS STS as AssumeRole needs.
type sts struct {
	t     *testing.T
	calls atomic.Int64
	asked atomic.Pointer[url.Values]
}

const assumed = `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIA%[1]d</AccessKeyId><SecretAccessKey>secret%[1]d</SecretAccessKey><SessionToken>token%[1]d</SessionToken><Expiration>%[2]s</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>`

// ServeHTTP implements [http.Handler]: each call gives other credentials.
func (s *sts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.t.Error(err)
	}
	s.asked.Store(&r.PostForm)
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, assumed, s.calls.Add(1), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)) // the SDK sees it, or is gone
}

// TestAssumeRole assumes a role, keeps its credentials, and asks for others when
// AWS says that they have expired.
func TestAssumeRole(t *testing.T) {
	service := &sts{t: t}
	stsServer := httptest.NewServer(service)
	t.Cleanup(stsServer.Close)
	server := awskmstest.New(t, awskmstest.Config{})
	role := awskms.AssumeRole{ARN: "arn:aws:iam::111122223333:role/signetd", ExternalID: "issuer-7", SessionName: "host-1"}
	server.Setenv(t)
	t.Setenv("AWS_ENDPOINT_URL_STS", stsServer.URL)
	server.SetCredentials("ASIA1", "secret1", "token1")
	b, err := awskms.Open(t.Context(), awskms.Config{Region: server.Region(), Endpoint: server.URL(), AssumeRole: &role})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOK(t, b) })
	k := openSigner(t, b, server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY"))

	sign := func(wantCalls int64) {
		t.Helper()
		if _, err := k.SignContext(t.Context(), make([]byte, 32), crypto.SHA256); err != nil {
			t.Error(err)
		}
		if n := service.calls.Load(); n != wantCalls {
			t.Errorf("%d calls of AssumeRole, want %d", n, wantCalls)
		}
	}

	sign(1)
	sign(1)
	form := *service.asked.Load()

	for member, want := range map[string]string{"Action": "AssumeRole", "RoleArn": role.ARN, "ExternalId": role.ExternalID, "RoleSessionName": role.SessionName} {
		if got := form.Get(member); got != want {
			t.Errorf("AssumeRole with %s %q, want %q", member, got, want)
		}
	}

	server.SetCredentials("ASIA2", "secret2", "token2")
	server.Inject("Sign", 1, 1, awskmstest.ExpiredCredentials())
	sign(2)
}

// TestCredentials sends requests that the SDK has signed with credentials or a clock that
// are wrong.
func TestCredentials(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, s *awskmstest.Server)
		want   error
	}{
		{"right", func(*testing.T, *awskmstest.Server) {}, nil},
		{"another secret", func(t *testing.T, _ *awskmstest.Server) { t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong") }, signer.ErrUnavailable},
		{"another key id", func(t *testing.T, _ *awskmstest.Server) { t.Setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER") }, signer.ErrUnavailable},
		{"no token", func(t *testing.T, _ *awskmstest.Server) { t.Setenv("AWS_SESSION_TOKEN", "") }, signer.ErrUnavailable},
		{"another token", func(t *testing.T, _ *awskmstest.Server) { t.Setenv("AWS_SESSION_TOKEN", "other") }, signer.ErrUnavailable},
		{"no credentials", func(t *testing.T, _ *awskmstest.Server) {
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		}, signer.ErrUnavailable},
		{"a clock that is ten minutes slow", func(_ *testing.T, s *awskmstest.Server) {
			s.SetClock(func() time.Time { return time.Now().Add(10 * time.Minute) })
		}, nil}, // the SDK takes over the server's time
		{"a clock that is ten minutes fast", func(_ *testing.T, s *awskmstest.Server) {
			s.SetClock(func() time.Time { return time.Now().Add(-10 * time.Minute) })
		}, nil},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := awskmstest.New(t, awskmstest.Config{SessionToken: "token"})
			arn := server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
			server.Setenv(t)
			tt.change(t, server)
			b, err := awskms.Open(t.Context(), awskms.Config{Region: "eu-west-1", Endpoint: server.URL()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { closeOK(t, b) })
			start := time.Now()
			if _, err := b.OpenKey(t.Context(), arn); !errors.Is(err, tt.want) {
				t.Errorf("OpenKey() = %v, want %v", err, tt.want)
			} else if err != nil {
				t.Log(err)
			}
			if err := b.Ping(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("Ping() = %v, want %v", err, tt.want)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestTLS reaches a server by the CA bundle of the environment. The environment also asks
// for more retries of the SDK, which must change nothing.
func TestTLS(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{TLS: true})
	server.Setenv(t)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, server.Certificate(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_MAX_ATTEMPTS", "7")
	t.Setenv("AWS_RETRY_MODE", "adaptive")
	arn := server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
	config := awskms.Config{Region: "eu-west-1", Endpoint: server.URL()}
	untrusting, err := awskms.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOK(t, untrusting) })
	if _, err := untrusting.OpenKey(t.Context(), arn); !errors.Is(err, signer.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("OpenKey(without the CA) = %v, want ErrUnavailable with the certificate", err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	b, err := awskms.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOK(t, b) })
	k := openSigner(t, b, arn)
	before := server.Calls()["Sign"]
	server.Inject("Sign", 1, -1, awskmstest.Status(503))
	if _, err := k.SignContext(t.Context(), make([]byte, 32), crypto.SHA256); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("SignContext() = %v, want ErrUnavailable", err)
	}
	if n := server.Calls()["Sign"] - before; n != 3 {
		t.Errorf("%d attempts, want 3 whatever AWS_MAX_ATTEMPTS says", n)
	}
}
