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
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"signetd/backends/cloud"
	"signetd/signer"
)

// The classes of calls, which Google counts apart. Only the first has a rate here.
const (
	classCrypto = "crypto" // with a key
	classRead   = "read"   // about a key
)

// A Backend is a connection to Google Cloud KMS with one set of credentials. It is
// safe for concurrent use.
type Backend struct {
	client *kms.KeyManagementClient
	caller *cloud.Caller
	known  atomic.Pointer[string] // a CryptoKey that was opened, for Ping to ask about

	closing  sync.Once
	closeErr error
}

var (
	_ signer.Metered  = (*Backend)(nil)
	_ signer.Expander = (*Backend)(nil)
)

// Open finds the credentials and prepares the connection, which the first call
// makes. The Backend must be closed.
func Open(ctx context.Context, cfg Config) (*Backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	options, err := cfg.options()
	if err != nil {
		return nil, err
	}
	client, err := kms.NewKeyManagementClient(context.WithoutCancel(ctx), options...)
	if err != nil {
		return nil, fmt.Errorf("%w: gcpkms: %w", signer.ErrUnavailable, err)
	}
	client.CallOptions = &kms.KeyManagementCallOptions{} // no retries and no timeouts but the Caller's
	return &Backend{client: client, caller: cloud.New(cloud.Config{
		Service: service, Attempts: cfg.Attempts, AttemptTimeout: cfg.attemptTimeout(), Classify: classify,
		Rates: map[string]int{classCrypto: cfg.Rate},
	})}, nil
}

// options are what Google's client is made with.
func (c Config) options() ([]option.ClientOption, error) {
	options := []option.ClientOption{option.WithTelemetryDisabled()}
	if c.Endpoint != "" {
		options = append(options, option.WithEndpoint(c.Endpoint))
	}
	if c.Plaintext {
		return append(options, option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))), nil
	}
	if c.CredentialsFile != "" {
		with, err := readCredentials(c.CredentialsFile)
		if err != nil {
			return nil, err
		}
		options = append(options, with)
	}
	return options, nil
}

// do makes a call as [cloud.Caller.Do] does.
func (b *Backend) do(ctx context.Context, class string, call func(ctx context.Context) error) error {
	return b.caller.Do(ctx, class, func(ctx context.Context) error {
		err := call(ctx)
		if deadline, ok := ctx.Deadline(); ok && status.Code(err) == codes.DeadlineExceeded && time.Until(deadline) < clockSkew {
			// The server has the same deadline, and may say that it passed before the timer
			// here does. Whose it was, the attempt's or the caller's, ctx will tell.
			<-ctx.Done()
		}
		return err
	})
}

// clockSkew is how much earlier than here a deadline may pass on the server.
const clockSkew = 50 * time.Millisecond

// service is how errors call Google Cloud KMS.
const service = "Google Cloud KMS"

// noKey is what Ping asks about before a key was opened. There is no such key: that
// Google says so is the answer.
const noKey = "projects/-/locations/global/keyRings/signetd/cryptoKeys/ping"

// Ping reports whether Google answers, which may be known from the last call. It
// needs no permission.
func (b *Backend) Ping(ctx context.Context) error {
	resource := noKey
	if known := b.known.Load(); known != nil {
		resource = *known
	}
	err := b.caller.Ping(ctx, classRead, func(ctx context.Context) error {
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

// Close waits for the calls in flight and closes the connection. The keys of b
// answer ErrUnavailable from then on.
func (b *Backend) Close() error {
	b.closing.Do(func() {
		b.caller.Close()
		if err := b.client.Close(); err != nil {
			b.closeErr = fmt.Errorf("gcpkms: close: %w", err)
		}
	})
	return b.closeErr
}
