package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/client/http1"
	"signetd/signer"
)

// An Error is a refusal by the daemon. It wraps the error of package signer that Code
// stands for, so that errors.Is tells the cases apart.
type Error struct {
	Code      string // one of the codes of package signer
	Message   string // what is wrong, for a person
	RequestID string // the id of the request in the daemon's log and audit records
	Rule      string // the rule on claims or tokens that refused, if one did
	Status    int    // the HTTP status; 0 for one request of a batch
	// RetryAfter is how long to wait before the next attempt, or 0 if the daemon did not
	// say. The client never waits and retries by itself.
	RetryAfter time.Duration
}

// Error implements error. Every failure to decrypt has the text of signer.ErrDecrypt and
// nothing more, so that a log or a caller that passes the text on is no oracle.
func (e *Error) Error() string {
	if errors.Is(e, signer.ErrDecrypt) {
		return signer.ErrDecrypt.Error()
	}

	text := cmp.Or(e.Message, e.Code)
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// Unwrap returns the error of package signer, or nil if Code stands for none.
func (e *Error) Unwrap() error { return signer.FromCode(e.Code) }

// refusal returns the error of an answer that is not a success.
func refusal(a *http1.Answer) error {
	body, err := decode[api.ErrorResponse](a.Body)
	if err != nil || body.Error.Code == "" {
		return &Error{
			Code: signer.CodeInternal, Status: a.Status,
			Message: fmt.Sprintf("status %d without signetd's error: does another program listen there?", a.Status),
		}
	}

	e := errorOf(&body.Error)
	e.Status = a.Status
	if seconds, err := strconv.ParseUint(a.RetryAfter, 10, 16); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

// errorOf returns the error that e describes, without what HTTP says about it.
func errorOf(e *api.Error) *Error {
	return &Error{Code: e.Code, Message: e.Message, RequestID: e.RequestID, Rule: e.Rule}
}

// sendError explains an error of [http1.ConnPool.Do]: no whole answer came.
func (c *Client) sendError(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, http1.ErrTooLong):
		return err
	case errors.Is(err, http1.ErrClosed):
		return fmt.Errorf("%w: the client is closed", signer.ErrUnavailable)
	case !errors.As(err, &op) || op.Op != "dial":
		return fmt.Errorf("%w: no whole answer from the daemon on %s: %w", signer.ErrUnavailable, c.socket, err)

	// No connection could be made: what to do depends on the system's error.
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: no daemon answers on %s: is it running? (%w)", signer.ErrUnavailable, c.socket, cause(err))
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: no daemon answers on %s: may user %s open it? (%w)", signer.ErrUnavailable, c.socket, userName(), cause(err))
	case errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("%w: too many connections wait on %s (%w)", signer.ErrOverloaded, c.socket, cause(err))
	default:
		return fmt.Errorf("%w: connect to %s: %w", signer.ErrUnavailable, c.socket, cause(err))
	}
}

// cause returns the system's error without the address, which the text has already.
func cause(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}
