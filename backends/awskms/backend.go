//go:build !noaws

package awskms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"signetd/backends/cloud"
	"signetd/signer"
)

// A Backend is one account's keys in one region. It is safe for concurrent use.
type Backend struct {
	client      *kms.Client
	caller      *cloud.Caller
	transport   *http.Transport
	credentials *aws.CredentialsCache
	region      string
	pinged      atomic.Pointer[string] // the ARN of a key that was opened
}

var _ signer.Metered = (*Backend)(nil)

// Open reads the SDK's environment and files. It makes no call to AWS: OpenKey and
// Ping do. The errors are ErrInvalid.
func Open(ctx context.Context, c Config) (*Backend, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	sdk, err := load(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%w: awskms: %w", signer.ErrInvalid, err)
	}
	b := &Backend{region: sdk.Region}
	if b.region == "" {
		return nil, fmt.Errorf("%w: awskms: no region: neither in the config, nor in AWS_REGION, nor in the profile", signer.ErrInvalid)
	}
	if c.AssumeRole != nil {
		sdk.Credentials = assume(sdk, *c.AssumeRole)
	}
	b.credentials, _ = sdk.Credentials.(*aws.CredentialsCache) // without it, expired credentials are not asked for again
	b.transport = transport(sdk)
	b.client = kms.NewFromConfig(sdk, func(o *kms.Options) {
		o.HTTPClient = &http.Client{Transport: bounded{b.transport}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		o.Retryer = aws.NopRetryer{} // the Caller's attempts are all there are
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
		if c.FIPS {
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		}
	})
	if err := checkResolved(b.client.Options()); err != nil {
		return nil, err
	}
	b.caller = cloud.New(cloud.Config{
		Service: "AWS KMS", Attempts: c.Attempts, AttemptTimeout: c.attemptTimeout(), Rates: c.rates(), Classify: b.classify,
	})
	return b, nil
}

func load(ctx context.Context, c Config) (aws.Config, error) {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = t.MaxIdleConns // there is one host
		t.IdleConnTimeout = time.Minute
	})
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithLogger(logging.Nop{}), // what it would say to standard error is in the errors, or of no use
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	return config.LoadDefaultConfig(ctx, options...)
}

// transport returns a transport as the SDK would use, with the CA bundle of the
// environment, that Close can close.
func transport(sdk aws.Config) *http.Transport {
	if client, ok := sdk.HTTPClient.(*awshttp.BuildableClient); ok {
		return client.GetTransport()
	}
	return awshttp.NewBuildableClient().GetTransport()
}

func assume(sdk aws.Config, role AssumeRole) aws.CredentialsProvider {
	provider := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(sdk), role.ARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = "signetd"
		if role.SessionName != "" {
			o.RoleSessionName = role.SessionName
		}
		if role.ExternalID != "" {
			o.ExternalID = aws.String(role.ExternalID)
		}
	})
	return aws.NewCredentialsCache(provider)
}

// checkResolved looks at what the SDK made of its environment, which can set an
// endpoint and FIPS, too.
func checkResolved(o kms.Options) error {
	if o.BaseEndpoint == nil {
		return nil
	}
	if o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled {
		return fmt.Errorf("%w: awskms: FIPS and an endpoint of one's own exclude each other (fips, endpoint, and AWS_USE_FIPS_ENDPOINT, AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_KMS of the environment)", signer.ErrInvalid)
	}
	return checkEndpoint(*o.BaseEndpoint)
}

// maxAnswer is more than any answer of AWS KMS has.
const maxAnswer = 1 << 20

// bounded is a transport whose answers have an end: the SDK reads all there is.
type bounded struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// noKey names no key. Whether AWS says so or that the credentials may not ask, it
// has answered.
const noKey = "alias/signetd/ping"

// Ping implements [signer.Backend]. It describes a key that was opened, or one that
// does not exist, and at most every few seconds. A throttle counts as an answer, a
// missing permission too; refused credentials do not.
func (b *Backend) Ping(ctx context.Context) error {
	id := noKey
	if arn := b.pinged.Load(); arn != nil {
		id = *arn
	}
	return b.caller.Ping(ctx, classControl, func(ctx context.Context) error {
		_, err := b.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(id)})
		switch code(err) {
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

// call makes a call with the key that has the given ARN. It says which operation
// failed with which key, but for ErrDecrypt, which has no more to say.
func (b *Backend) call(ctx context.Context, class, op, arn string, call func(ctx context.Context) error) error {
	err := b.caller.Do(ctx, class, call)
	if err == nil || errors.Is(err, signer.ErrDecrypt) || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("kms:%s with %s: %w", op, keyID(arn), err)
}
