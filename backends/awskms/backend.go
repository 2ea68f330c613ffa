//go:build !noaws

package awskms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"signetd/backends/cloud"
	"signetd/signer"
)

// service is the name of AWS KMS in errors.
const service = "AWS KMS"

// A Backend is one account's keys in one region. It is safe for concurrent use.
type Backend struct {
	client      *kms.Client
	caller      *cloud.Caller
	transport   *http.Transport
	credentials *aws.CredentialsCache // nil if the SDK has made another kind of provider
	region      string

	known atomic.Pointer[string] // the ARN of the key that was opened last, for Ping; nil before the first
}

var _ signer.Metered = (*Backend)(nil)

// Open reads the SDK's environment and files. It makes no call to AWS: OpenKey and
// Ping do. The errors are ErrInvalid.
func Open(ctx context.Context, c Config) (*Backend, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	sdk, err := loadSDK(ctx, c)
	if err != nil {
		return nil, err
	}

	b := &Backend{region: sdk.Region}
	b.credentials, _ = sdk.Credentials.(*aws.CredentialsCache)

	// The SDK's own client cannot close its connections, and Close must.
	b.transport = awshttp.NewBuildableClient().GetTransport()
	if client, ok := sdk.HTTPClient.(*awshttp.BuildableClient); ok {
		b.transport = client.GetTransport() // has the CA bundle of the environment
	}

	b.client = kms.NewFromConfig(sdk, func(o *kms.Options) {
		o.HTTPClient = &http.Client{
			Transport:     boundedTransport{b.transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		o.Retryer = aws.NopRetryer{} // the Caller retries
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
		if c.FIPS {
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		}
	})

	// The SDK's environment can set an endpoint and FIPS, too, so the outcome is
	// checked as the config was.
	if o := b.client.Options(); o.BaseEndpoint != nil {
		if o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled {
			return nil, fmt.Errorf("%w: awskms: fips and endpoint exclude each other: leave one of them out, here and among AWS_USE_FIPS_ENDPOINT, AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_KMS of the environment", signer.ErrInvalid)
		}
		if err := checkEndpoint(*o.BaseEndpoint); err != nil {
			return nil, err
		}
	}

	b.caller = cloud.New(cloud.Config{
		Service: service, Attempts: c.Attempts, AttemptTimeout: c.attemptTimeout(), Rates: c.rates(), Classify: b.classify,
	})
	return b, nil
}

// maxAnswer is longer than any answer of AWS KMS, in bytes.
const maxAnswer = 1 << 20

// A boundedTransport cuts off answers that are too long. The SDK reads whatever comes.
type boundedTransport struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// noKey is what Ping asks about before a key was opened. There is no such key: that
// AWS says so, or that the credentials may not ask, is an answer.
const noKey = "alias/signetd/ping"

// Ping implements [signer.Backend]. It describes the key that was opened last, or one
// that does not exist, and at most every few seconds. AWS is there if it throttles or
// misses a permission, and is not if it refuses the credentials.
func (b *Backend) Ping(ctx context.Context) error {
	id := noKey
	if known := b.known.Load(); known != nil {
		id = *known
	}
	return b.caller.Ping(ctx, classControl, func(ctx context.Context) error {
		_, err := b.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(id)})
		switch codeOf(err) {
		case "NotFoundException", "AccessDeniedException":
			return nil
		}
		return err
	})
}

// Stats returns the numbers of the backend as of now.
func (b *Backend) Stats() cloud.Stats { return b.caller.Stats() }

// Metrics implements [signer.Metered].
func (b *Backend) Metrics() []signer.Metric { return b.Stats().Metrics() }

// Close implements [signer.Backend].
func (b *Backend) Close() error {
	b.caller.Close()
	b.transport.CloseIdleConnections()
	return nil
}

// call makes a call of the given class, with retries. Its error says which operation
// failed with which key, except for ErrDecrypt, which says nothing more.
func (b *Backend) call(ctx context.Context, class, op, arn string, call func(ctx context.Context) error) error {
	err := b.caller.Do(ctx, class, call)
	if err == nil || errors.Is(err, signer.ErrDecrypt) || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("kms:%s with %s: %w", op, keyID(arn), err)
}
