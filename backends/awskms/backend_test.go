//go:build !noaws

package awskms_test

import (
	"context"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"signetd/backends/awskms"
	"signetd/backends/awskms/awskmstest"
	"signetd/signer"
)

// TestPing: a service that is busy, or that refuses this one question, is there.
func TestPing(t *testing.T) {
	tests := []struct {
		name  string
		fault awskmstest.Fault
		want  error
	}{
		{"throttling", awskmstest.Throttling(), nil},
		{"no permission", awskmstest.Error("AccessDeniedException", ""), nil},
		{"no such key", awskmstest.Error("NotFoundException", ""), nil},
		{"down", awskmstest.Status(503), signer.ErrUnavailable},
		{"reset", awskmstest.Reset(), signer.ErrUnavailable},
		{"credentials refused", awskmstest.Error("UnrecognizedClientException", ""), signer.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := awskmstest.New(t, awskmstest.Config{})
			b := open(t, server)
			server.Inject("", 1, -1, tt.fault)
			if err := b.Ping(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("Ping() = %v, want %v", err, tt.want)
			}
			server.Heal()
			for range 10 {
				if err := b.Ping(t.Context()); err != nil {
					t.Errorf("Ping() when healed = %v", err)
				}
			}
			if n := server.Calls()["DescribeKey"]; n > 4 {
				t.Errorf("%d calls for 11 pings, want few", n)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	role := func(r awskms.AssumeRole) awskms.Config { return awskms.Config{Region: "eu-west-1", AssumeRole: &r} }
	awskmstest.New(t, awskmstest.Config{}).Setenv(t)
	tests := []struct {
		name   string
		config awskms.Config
		env    map[string]string
		text   string // in the error; empty is none
	}{
		{name: "region", config: awskms.Config{Region: "eu-west-1"}},
		{name: "region of the environment", env: map[string]string{"AWS_REGION": "eu-west-1"}},
		{name: "no region", text: "region"},
		{name: "no name of a region", config: awskms.Config{Region: "EU West"}, text: "eu-west-1"},
		{name: "FIPS", config: awskms.Config{Region: "us-east-1", FIPS: true}},
		{name: "FIPS and endpoint", config: awskms.Config{Region: "us-east-1", FIPS: true, Endpoint: "https://kms.example"}, text: "fips and endpoint"},
		{name: "FIPS and an endpoint of the environment", config: awskms.Config{Region: "us-east-1", FIPS: true}, env: map[string]string{"AWS_ENDPOINT_URL_KMS": "https://kms.example"}, text: "AWS_ENDPOINT_URL_KMS"},
		{name: "FIPS of the environment and endpoint", config: awskms.Config{Region: "us-east-1", Endpoint: "https://kms.example"}, env: map[string]string{"AWS_USE_FIPS_ENDPOINT": "true"}, text: "AWS_USE_FIPS_ENDPOINT"},
		{name: "endpoint", config: awskms.Config{Region: "us-east-1", Endpoint: "https://vpce-1.kms.us-east-1.vpce.amazonaws.com"}},
		{name: "endpoint here", config: awskms.Config{Region: "us-east-1", Endpoint: "http://127.0.0.1:4566"}},
		{name: "endpoint in the clear", config: awskms.Config{Region: "us-east-1", Endpoint: "http://kms.example"}, text: "https"},
		{name: "endpoint in the clear by the environment", config: awskms.Config{Region: "us-east-1"}, env: map[string]string{"AWS_ENDPOINT_URL": "http://kms.example"}, text: "https"},
		{name: "endpoint that is none", config: awskms.Config{Region: "us-east-1", Endpoint: "kms.example"}, text: "URL"},
		{name: "profile that is not there", config: awskms.Config{Region: "us-east-1", Profile: "nobody"}, text: "nobody"},
		{name: "role", config: role(awskms.AssumeRole{ARN: "arn:aws:iam::111122223333:role/signetd", ExternalID: "x", SessionName: "host-1"})},
		{name: "role that is none", config: role(awskms.AssumeRole{ARN: "signetd"}), text: "arn"},
		{name: "session name", config: role(awskms.AssumeRole{ARN: "arn:aws:iam::111122223333:role/signetd", SessionName: "a b"}), text: "session_name"},
		{name: "attempts", config: awskms.Config{Region: "us-east-1", Attempts: 100}, text: "attempts"},
		{name: "attempt timeout", config: awskms.Config{Region: "us-east-1", AttemptTimeout: "1"}, text: "attempt_timeout"},
		{name: "rate", config: awskms.Config{Region: "us-east-1", Rates: awskms.Rates{ECC: -1}}, text: "rates"},
		{name: "rate of ML-DSA", config: awskms.Config{Region: "us-east-1", Rates: awskms.Rates{MLDSA: -1}}, text: "rates"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			b, err := awskms.Open(t.Context(), tt.config)
			if err == nil {
				err2 := b.Close()
				if tt.text != "" || err2 != nil {
					t.Errorf("Open() = nil, Close() = %v; want an error with %q", err2, tt.text)
				}
				return
			}
			if tt.text == "" || !errors.Is(err, signer.ErrInvalid) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Open() = %v, want ErrInvalid with %q", err, tt.text)
			}
		})
	}
}

// TestCredentials has the server refuse what is wrong with a request, which the SDK
// makes itself.
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

// TestTLS reaches a server by the CA bundle of the environment, with the retries of
// the SDK turned up, which must change nothing.
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

// TestConnectionsAreKept has as many calls at once as the daemon has places by default,
// again and again: each keeps its connection.
func TestConnectionsAreKept(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server, func(c *awskms.Config) { c.AttemptTimeout = "30s" })
	k := openSigner(t, b, server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY"))
	const places, rounds = 64, 20
	var wg sync.WaitGroup
	for range places {
		wg.Go(func() {
			for range rounds {
				if _, err := k.SignContext(t.Context(), make([]byte, 32), crypto.SHA256); err != nil {
					t.Errorf("SignContext() = %v", err)
				}
			}
		})
	}
	wg.Wait()
	// net/http dials ahead, and keeps what it then does not need at once.
	if n := server.Connections(); n > 2*places {
		t.Errorf("%d connections for %d calls of which %d ran at once", n, places*rounds, places)
	} else {
		t.Logf("%d connections for %d calls", n, places*rounds)
	}
}

// TestDeadline ends the caller's deadline in the midst of a hang: it comes before
// the attempt's.
func TestDeadline(t *testing.T) {
	server := awskmstest.New(t, awskmstest.Config{})
	b := open(t, server)
	k := openSigner(t, b, server.CreateKey("ECC_NIST_P256", "SIGN_VERIFY"))
	server.Inject("Sign", 1, -1, awskmstest.Hang())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := k.SignContext(ctx, make([]byte, 32), crypto.SHA256); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("SignContext() = %v, want context.DeadlineExceeded", err)
	}
	if took := time.Since(start); took > 100*time.Millisecond+slack {
		t.Errorf("took %v, want 100ms", took)
	}
}
