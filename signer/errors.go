package signer

import (
	"context"
	"errors"
	"time"
)

// The errors that a caller must be able to tell apart. Backends wrap them with the
// operation, the daemon sends their code over the wire, and the client maps the code back,
// so that errors.Is gives the same answer on both sides of the socket. Any other error,
// unless it is of a context, is a bug.
var (
	// ErrInvalid means that the request could never succeed as written.
	ErrInvalid = errors.New("invalid request")
	// ErrDenied means that no grant allows the request, or that the claims break
	// the key's policy. An unknown key gives the same error.
	ErrDenied = errors.New("denied")
	// ErrNotFound means that the request is allowed, and that the kid, version or key in
	// it does not exist.
	ErrNotFound = errors.New("not found")
	// ErrUnsupported means that the algorithm does not fit the key or its backend.
	ErrUnsupported = errors.New("unsupported")
	// ErrDecrypt is every failure to decrypt, whatever the cause. It is returned
	// bare: a reason would be an oracle (RFC 7516 section 11.5).
	ErrDecrypt = errors.New("decryption failed")
	// ErrOverloaded means that a limit, a quota or a throttle was reached.
	ErrOverloaded = errors.New("overloaded")
	// ErrUnavailable means that the backend is down or refuses the login, that the
	// audit record cannot be written, or that no daemon answers.
	ErrUnavailable = errors.New("unavailable")
)

// CodeInternal is the code of an error that is none of the sentinels.
const CodeInternal = "internal"

var codes = []struct {
	err  error
	code string
}{
	{ErrInvalid, "invalid"},
	{ErrDenied, "denied"},
	{ErrNotFound, "not_found"},
	{ErrUnsupported, "unsupported"},
	{ErrDecrypt, "decrypt_failed"},
	{ErrOverloaded, "overloaded"},
	{ErrUnavailable, "unavailable"},
	{context.DeadlineExceeded, "deadline"},
	{context.Canceled, "deadline"},
}

// Code returns the wire code of err: one word in lower case, the same in
// answers, audit records and metrics. A nil error has the code "ok".
func Code(err error) string {
	if err == nil {
		return "ok"
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return CodeInternal
}

// FromCode returns the sentinel that has the given wire code, or nil if none has.
func FromCode(code string) error {
	for _, c := range codes {
		if c.code == code {
			return c.err
		}
	}
	return nil
}

// WithRetryAfter returns err with a hint for the peer: how long to wait before the next
// attempt. The daemon sends it as Retry-After, in whole seconds.
// errors.Is finds what err wraps. A nil err stays nil.
func WithRetryAfter(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryError{err, after}
}

// RetryAfter returns the hint that err carries, or 0 if it has none.
func RetryAfter(err error) time.Duration {
	var r *retryError
	if errors.As(err, &r) {
		return r.after
	}
	return 0
}

type retryError struct {
	error
	after time.Duration
}

// Unwrap returns the error that the hint is for.
func (e *retryError) Unwrap() error { return e.error }

// NeedsOperator marks err, an ErrUnavailable of opening a backend or a key, as an error that
// does not pass by itself: a PIN that is refused, a module file that does not exist. Its
// text, and what it wraps, stay as they are.
func NeedsOperator(err error) error {
	if err == nil {
		return nil
	}
	return &operatorError{err}
}

type operatorError struct{ error }

// Unwrap returns the error that was marked.
func (e *operatorError) Unwrap() error { return e.error }

// Passing reports whether err, of opening a backend or a key, may pass by itself: a backend
// is down, slow or overloaded, or a key is disabled there. Every other error is a mistake
// in the config or the backend, which the operator has to mend.
func Passing(err error) bool {
	var operator *operatorError
	if errors.As(err, &operator) {
		return false
	}
	for _, mistake := range []error{ErrInvalid, ErrDenied, ErrNotFound, ErrUnsupported, ErrDecrypt} {
		if errors.Is(err, mistake) {
			return false
		}
	}
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOverloaded) || errors.Is(err, context.DeadlineExceeded)
}
