//go:build !nogcp

package gcpkms

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"signetd/backends/cloud"
	"signetd/signer"
)

// classify says what an error of the client means for a call with a key that is open.
// None of them is a mistake in the request, which was checked before. [atOpen] has the
// differences for a key that is being opened.
func classify(err error) cloud.Fault {
	s := status.Convert(err)
	final := func(sentinel error, hint string) cloud.Fault {
		return cloud.Fault{Kind: cloud.Final, Err: &answerError{sentinel, s, hint}}
	}

	switch s.Code() { //nolint:exhaustive // the others say that the service or the connection failed
	case codes.ResourceExhausted:
		f := cloud.Fault{Kind: cloud.Throttled, Err: errors.New("quota exceeded")}
		for _, d := range s.Details() {
			if retry, ok := d.(*errdetails.RetryInfo); ok {
				f.After = retry.GetRetryDelay().AsDuration()
			}
		}
		return f
	case codes.PermissionDenied:
		return final(signer.ErrUnavailable, "grant the role that docs/operations.md names to the service account that signetd runs as")
	case codes.Unauthenticated:
		return final(signer.ErrUnavailable, "the credentials are missing, expired or revoked: see credentials_file")
	case codes.FailedPrecondition:
		return final(signer.ErrUnavailable, "the version must be in state ENABLED, and of the purpose that it is used for")
	case codes.NotFound:
		return final(signer.ErrUnavailable, "the version existed when it was opened")
	case codes.InvalidArgument, codes.Unimplemented, codes.OutOfRange:
		return final(nil, "the service refuses the request as wrong: a bug of signetd, or a fault of the endpoint")
	default:
		return cloud.Fault{Kind: cloud.Retryable, Err: fmt.Errorf("%v", s.Code())}
	}
}

// answered reports whether err is an answer of the service, which may be a refusal,
// rather than a sign that it is down.
func answered(err error) bool {
	switch status.Code(err) { //nolint:exhaustive // the others say that it is down
	case codes.OK, codes.PermissionDenied, codes.NotFound, codes.InvalidArgument, codes.FailedPrecondition, codes.Unimplemented:
		return !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
	}
	return false
}

// An answerError is a refusal of the service.
type answerError struct {
	sentinel error
	status   *status.Status
	hint     string
}

// Error implements error. It includes Google's message where that names the permission
// or the state, and leaves it out where it may quote what was sent.
func (e *answerError) Error() string {
	text := fmt.Sprintf("%s: %v: %s", service, e.status.Code(), e.hint)
	switch e.status.Code() { //nolint:exhaustive // see above
	case codes.PermissionDenied, codes.FailedPrecondition, codes.Unauthenticated:
		text += fmt.Sprintf(" (%.400s)", e.status.Message())
	}
	if e.sentinel != nil {
		text = e.sentinel.Error() + ": " + text
	}
	return text
}

// Unwrap returns the sentinel.
func (e *answerError) Unwrap() error { return e.sentinel }

// codeOf returns the status of a refusal by the service, or OK for every other error.
func codeOf(err error) codes.Code {
	var e *answerError
	if errors.As(err, &e) {
		return e.status.Code()
	}
	return codes.OK
}

// atOpen returns the error of opening the key that is called name. A name that does
// not exist, or that Google does not take, is a mistake in the config then. A version
// that is not enabled, or that the credentials may not use, is not: an operator can
// change that at any time without touching this host, so it is ErrUnavailable as it
// is for a key in use, and costs its version alone.
func atOpen(name string, err error) error {
	switch codeOf(err) { //nolint:exhaustive // the others are as they are in use
	case codes.NotFound:
		return fmt.Errorf("%w: gcpkms: open %s: there is no such key or version", signer.ErrNotFound, name)
	case codes.InvalidArgument:
		return fmt.Errorf("%w: gcpkms: open %s: %w", signer.ErrInvalid, name, err)
	}
	return fmt.Errorf("gcpkms: open %s: %w", name, err)
}
