//go:build !noaws

package awskms

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"signetd/backends/cloud"
	"signetd/signer"
)

// A meaning is what an error code of AWS means for a call. The codes are read and not
// the HTTP status, in which AWS, its documentation and its emulators differ.
type meaning struct {
	kind     cloud.Kind
	sentinel error  // if kind is Final
	text     string // what is wrong, and what to do
}

var (
	throttled = meaning{cloud.Throttled, nil, "more calls than the account's quota"}
	internal  = meaning{cloud.Retryable, nil, "a fault on the side of AWS"}
	refused   = meaning{cloud.Final, signer.ErrUnavailable, "AWS does not accept the credentials: check them, and the clock of this host"}
)

var meanings = map[string]meaning{
	"ThrottlingException":       throttled,
	"Throttling":                throttled,
	"ThrottledException":        throttled,
	"RequestThrottled":          throttled,
	"RequestThrottledException": throttled,
	"RequestLimitExceeded":      throttled,
	"TooManyRequestsException":  throttled,
	"LimitExceededException":    throttled,
	"SlowDown":                  throttled,

	"DependencyTimeoutException":  internal,
	"KMSInternalException":        internal,
	"KeyUnavailableException":     internal,
	"InternalFailure":             internal,
	"InternalError":               internal,
	"InternalServerError":         internal,
	"ServiceUnavailable":          internal,
	"ServiceUnavailableException": internal,
	"RequestTimeout":              internal,
	"RequestTimeoutException":     internal,

	"ExpiredTokenException":               {cloud.Retryable, nil, "the credentials have expired"}, // the next attempt asks for others
	"ExpiredToken":                        {cloud.Retryable, nil, "the credentials have expired"},
	"AccessDeniedException":               {cloud.Final, signer.ErrUnavailable, "the credentials lack the permission: allow it in the key's policy or the role's"},
	"UnrecognizedClientException":         refused,
	"InvalidClientTokenId":                refused,
	"InvalidSignatureException":           refused,
	"SignatureDoesNotMatch":               refused,
	"IncompleteSignature":                 refused,
	"IncompleteSignatureException":        refused,
	"MissingAuthenticationToken":          refused,
	"MissingAuthenticationTokenException": refused,
	"OptInRequired":                       {cloud.Final, signer.ErrUnavailable, "the account is not signed up for the service"},

	"DisabledException":             {cloud.Final, signer.ErrUnavailable, "the key is disabled: enable it, or move to another version"},
	"KMSInvalidStateException":      {cloud.Final, signer.ErrUnavailable, "the key is in a state that allows no use, such as pending deletion: cancel the deletion, or move to another version"},
	"NotFoundException":             {cloud.Final, signer.ErrNotFound, "there is no such key in this account and region"},
	"InvalidArnException":           {cloud.Final, signer.ErrInvalid, "the ARN is not valid"},
	"InvalidKeyUsageException":      {cloud.Final, signer.ErrUnsupported, "the key's usage or type does not allow this operation"},
	"UnsupportedOperationException": {cloud.Final, signer.ErrUnsupported, "the key does not support this operation"},
	"InvalidCiphertextException":    {cloud.Final, signer.ErrDecrypt, ""},
	"IncorrectKeyException":         {cloud.Final, signer.ErrDecrypt, ""},
}

// codeOf returns the error code that AWS answered with, or "" if it sent none.
func codeOf(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() == "UnknownError" { // the SDK's name for an answer without a code
		return ""
	}
	return api.ErrorCode()
}

// classify says what an error of the SDK means. The text has AWS's code, and not its
// message, which may quote what was sent.
func (b *Backend) classify(err error) cloud.Fault {
	code := codeOf(err)
	if code == "" {
		return withoutCode(err)
	}
	m, ok := meanings[code]
	if !ok {
		return cloud.Fault{Kind: cloud.Final, Err: fmt.Errorf("%s refuses: %.64s%s", service, code, requestID(err))}
	}

	// The next attempt asks for other credentials only if these are forgotten.
	if strings.HasPrefix(code, "ExpiredToken") && b.credentials != nil {
		b.credentials.Invalidate()
	}

	// A clock that is wrong makes signatures that have expired. The SDK has taken the
	// server's time from this answer, so the next attempt has the right one.
	var api smithy.APIError
	if code == "InvalidSignatureException" && errors.As(err, &api) {
		if text := api.ErrorMessage(); strings.Contains(text, "Signature expired") || strings.Contains(text, "Signature not yet current") {
			m.kind = cloud.Retryable
		}
	}

	// A ciphertext that does not decrypt has one error, whatever the cause: anything
	// more is an oracle.
	if m.sentinel != nil && errors.Is(m.sentinel, signer.ErrDecrypt) {
		return cloud.Fault{Kind: cloud.Final, Err: signer.ErrDecrypt}
	}

	text := fmt.Errorf("%s (%s%s)", m.text, code, requestID(err))
	if m.kind == cloud.Final {
		text = fmt.Errorf("%w: %w", m.sentinel, text)
	}
	return cloud.Fault{Kind: m.kind, Err: text}
}

// withoutCode says what an error without a code of AWS means. It comes from the
// network, from something between AWS and this host, or from getting credentials.
func withoutCode(err error) cloud.Fault {
	var params smithy.InvalidParamsError
	if errors.As(err, &params) {
		return cloud.Fault{Kind: cloud.Final, Err: errors.New("the SDK refuses the request")}
	}

	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		cause := send.Err
		if u := (*url.Error)(nil); errors.As(cause, &u) {
			cause = u.Err // without the URL, which the operator knows from the config
		}
		return cloud.Fault{Kind: cloud.Retryable, Err: cause}
	}

	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil {
		switch status := resp.HTTPStatusCode(); status {
		case http.StatusTooManyRequests:
			return cloud.Fault{Kind: cloud.Throttled, Err: errors.New("status 429")}
		case http.StatusOK:
			return cloud.Fault{Kind: cloud.Retryable, Err: errors.New("an answer that is cut off or does not come from AWS KMS")}
		default:
			return cloud.Fault{Kind: cloud.Retryable, Err: fmt.Errorf("an answer of status %d that has no error code of AWS%s", status, requestID(err))}
		}
	}

	var op *smithy.OperationError
	if errors.As(err, &op) {
		err = op.Err // without the names of SDK and operation
	}
	return cloud.Fault{Kind: cloud.Retryable, Err: err}
}

// requestID returns the ID by which AWS's support finds a call, to end a text with.
func requestID(err error) string {
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) && resp.ServiceRequestID() != "" {
		return fmt.Sprintf(", request %.64s", resp.ServiceRequestID())
	}
	return ""
}
