//go:build !noaws

package awskms_test

import (
	"context"
	"crypto"
	"errors"
	"sync"
	"testing"
	"time"

	"signetd/backends/awskms"
	"signetd/backends/awskms/awskmstest"
	"signetd/signer"
)

// TestPing asks a service that is busy, or refuses this one call: it is there.
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

// TestConnectionsAreKept makes as many calls at once as the daemon runs by default, again
// and again. They must keep their connections.
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

	// net/http dials ahead, and keeps connections that it does not need at once.
	if n := server.Connections(); n > 2*places {
		t.Errorf("%d connections for %d calls of which %d ran at once", n, places*rounds, places)
	} else {
		t.Logf("%d connections for %d calls", n, places*rounds)
	}
}

// TestDeadline hangs until the caller's deadline, which comes before the attempt's.
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
