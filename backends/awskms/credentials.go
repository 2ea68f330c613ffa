//go:build !noaws

package awskms

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"signetd/signer"
)

// loadSDK finds region and credentials: in c, or where the SDK's default chain does.
func loadSDK(ctx context.Context, c Config) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = t.MaxIdleConns // there is one host
			t.IdleConnTimeout = time.Minute
		})),
		config.WithLogger(logging.Nop{}), // it would write to standard error what the errors say, too
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}

	sdk, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return sdk, fmt.Errorf("%w: awskms: %w", signer.ErrInvalid, err)
	}
	if sdk.Region == "" {
		return sdk, fmt.Errorf("%w: awskms: no region: set region in the config, AWS_REGION, or the region of the profile", signer.ErrInvalid)
	}
	if role := c.AssumeRole; role != nil {
		// AWS STS gives the role's credentials to those that were found.
		sdk.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(sdk), role.ARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = cmp.Or(role.SessionName, "signetd")
			if role.ExternalID != "" {
				o.ExternalID = aws.String(role.ExternalID)
			}
		}))
	}
	return sdk, nil
}
