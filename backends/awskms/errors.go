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

// A meaning is what an error code of AWS says to us. A status of HTTP says less:
// AWS, its documentation and its emulators differ in them.
type meaning struct {
	kind     cloud.Kind
	sentinel error  // of a Final one
	text     string // what to do
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

	"ExpiredTokenException":               {cloud.Retryable, nil, "the credentials have expired"}, // they are asked for anew
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
	"InvalidKeyUsageException":      {cloud.Final, signer.ErrUnsupported, "the key's usage or type is not for this"},
	"UnsupportedOperationException": {cloud.Final, signer.ErrUnsupported, "the key does not support this"},
	"InvalidCiphertextException":    {cloud.Final, signer.ErrDecrypt, ""},
	"IncorrectKeyException":         {cloud.Final, signer.ErrDecrypt, ""},
}

// code returns the error code that AWS answered with, or "" if it did not.
func code(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() == "UnknownError" { // what the SDK calls an answer without a code
		return ""
	}
	return api.ErrorCode()
}

// classify says what an error of the SDK means. Its errors hold the code, and not
// AWS's message, which may quote what was sent.
func (b *Backend) classify(err error) cloud.Fault {
	name := code(err)
	if name == "" {
		return unanswered(err)
	}
	m, known := meanings[name]
	if !known {
		return cloud.Fault{Kind: cloud.Final, Err: fmt.Errorf("AWS KMS refuses: %.64s%s", name, requestID(err))}
	}
	if strings.HasPrefix(name, "ExpiredToken") && b.credentials != nil {
		b.credentials.Invalidate()
	}
	if name == "InvalidSignatureException" && aboutTime(err) {
		m.kind = cloud.Retryable // the SDK has taken the server's time from the answer
	}
	if m.sentinel != nil && errors.Is(m.sentinel, signer.ErrDecrypt) {
		return cloud.Fault{Kind: cloud.Final, Err: signer.ErrDecrypt}
	}
	text := fmt.Errorf("%s (%s%s)", m.text, name, requestID(err))
	if m.kind == cloud.Final {
		text = fmt.Errorf("%w: %w", m.sentinel, text)
	}
	return cloud.Fault{Kind: m.kind, Err: text}
}

// aboutTime reports whether AWS refused a signature for the time that it was made.
func aboutTime(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && (strings.Contains(api.ErrorMessage(), "Signature expired") || strings.Contains(api.ErrorMessage(), "Signature not yet current"))
}

// unanswered is for errors without a code of AWS's: of the network, of something
// between AWS and here, and of getting credentials.
func unanswered(err error) cloud.Fault {
	var params smithy.InvalidParamsError
	if errors.As(err, &params) {
		return cloud.Fault{Kind: cloud.Final, Err: errors.New("the SDK refuses the request")}
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		cause := send.Err
		if u := (*url.Error)(nil); errors.As(cause, &u) {
			cause = u.Err // without the URL, which the config has
		}
		return cloud.Fault{Kind: cloud.Retryable, Err: cause}
	}
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil {
		status := resp.HTTPStatusCode()
		if status == http.StatusTooManyRequests {
			return cloud.Fault{Kind: cloud.Throttled, Err: errors.New("status 429")}
		}
		if status == http.StatusOK {
			return cloud.Fault{Kind: cloud.Retryable, Err: errors.New("an answer that is cut off or not AWS KMS's")}
		}
		return cloud.Fault{Kind: cloud.Retryable, Err: fmt.Errorf("an answer of status %d that has no error code of AWS%s", status, requestID(err))}
	}
	return cloud.Fault{Kind: cloud.Retryable, Err: cause(err)}
}

// cause is err without the names of SDK and operation before it.
func cause(err error) error {
	var op *smithy.OperationError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// requestID is how AWS's support finds a call, for the end of a text.
func requestID(err error) string {
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) && resp.ServiceRequestID() != "" {
		return fmt.Sprintf(", request %.64s", resp.ServiceRequestID())
	}
	return ""
}
