//go:build !nogcp

package gcpkms

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	kms "cloud.google.com/go/kms/apiv1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"signetd/backends/cloud"
	"signetd/signer"
)

// service is the name of Google Cloud KMS in errors.
const service = "Google Cloud KMS"

// The classes of calls, for which Google has quotas of their own. Only the first has a
// rate here.
const (
	classCrypto  = "crypto" // calls with a key
	classControl = "read"   // calls about a key
)

// A Backend is a connection to Google Cloud KMS with one set of credentials. It is
// safe for concurrent use.
type Backend struct {
	client *kms.KeyManagementClient
	caller *cloud.Caller

	known atomic.Pointer[string] // the CryptoKey that was opened last, for Ping; nil before the first

	closing  sync.Once
	closeErr error // what the first Close returned; set by closing
}

var (
	_ signer.Metered  = (*Backend)(nil)
	_ signer.Expander = (*Backend)(nil)
)

// Open finds the credentials and prepares the connection, which the first call makes.
// The Backend must be closed.
func Open(ctx context.Context, c Config) (*Backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	options, err := clientOptions(c)
	if err != nil {
		return nil, err
	}

	client, err := kms.NewKeyManagementClient(context.WithoutCancel(ctx), options...)
	if err != nil {
		return nil, fmt.Errorf("%w: gcpkms: %w", signer.ErrUnavailable, err)
	}
	client.CallOptions = &kms.KeyManagementCallOptions{} // no retries and no timeouts but the Caller's

	return &Backend{client: client, caller: cloud.New(cloud.Config{
		Service: service, Attempts: c.Attempts, AttemptTimeout: c.attemptTimeout(), Classify: classify,
		Rates: map[string]int{classCrypto: c.Rate},
	})}, nil
}

// noKey is what Ping asks about before a key was opened. There is no such key: that
// Google says so is an answer.
const noKey = "projects/-/locations/global/keyRings/signetd/cryptoKeys/ping"

// Ping implements [signer.Backend]. It asks about permissions, which takes none, and at
// most every few seconds. Google is there if it throttles.
func (b *Backend) Ping(ctx context.Context) error {
	resource := noKey
	if known := b.known.Load(); known != nil {
		resource = *known
	}
	err := b.caller.Ping(ctx, classControl, func(ctx context.Context) error {
		_, err := b.client.TestIamPermissions(ctx, &iampb.TestIamPermissionsRequest{Resource: resource, Permissions: []string{permissionSign}})
		if answered(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("gcpkms: %w", err)
	}
	return nil
}

// Stats returns the numbers of the backend as of now.
func (b *Backend) Stats() cloud.Stats { return b.caller.Stats() }

// Metrics implements [signer.Metered].
func (b *Backend) Metrics() []signer.Metric { return b.Stats().Metrics() }

// Close implements [signer.Backend]. It may be called more than once.
func (b *Backend) Close() error {
	b.closing.Do(func() {
		b.caller.Close()
		if err := b.client.Close(); err != nil {
			b.closeErr = fmt.Errorf("gcpkms: close: %w", err)
		}
	})
	return b.closeErr
}

// clockSkew is how much earlier a deadline may pass on the server than on this host.
const clockSkew = 50 * time.Millisecond

// call makes a call of the given class, with retries.
func (b *Backend) call(ctx context.Context, class string, call func(ctx context.Context) error) error {
	return b.caller.Do(ctx, class, func(ctx context.Context) error {
		err := call(ctx)

		// The server knows the deadline and may say that it has passed before the timer
		// here fires. Only ctx can tell whether it was the attempt's or the caller's.
		if deadline, ok := ctx.Deadline(); ok && status.Code(err) == codes.DeadlineExceeded && time.Until(deadline) < clockSkew {
			<-ctx.Done()
		}
		return err
	})
}
