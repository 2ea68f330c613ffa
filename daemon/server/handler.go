package server

import (
	"context"
	"fmt"
	"time"

	"signetd/daemon"
	"signetd/daemon/policy"
	"signetd/signer"
	"signetd/signer/supervise"
)

// A Handler answers requests. It is all that this package knows of the service.
type Handler interface {
	// Begin returns a request of peer with an id of its own.
	Begin(peer policy.Peer) daemon.Request
	// Answer does what a request asks for. The response must not be sent before its
	// Commit has returned.
	Answer(ctx context.Context, q *daemon.Request) daemon.Response
	// TimeOut answers in place of a goroutine that is stuck in w, or reports false if
	// that has an answer after all.
	TimeOut(w *supervise.Work) (daemon.Response, bool)
	// Fail is the answer to a request that this package refuses because of err.
	Fail(q *daemon.Request, err error) daemon.Response
}

var _ Handler = (*daemon.Service)(nil)

// lastWord is a whole HTTP response with an error, after which the connection is closed.
func lastWord(h Handler, peer policy.Peer, err error) []byte {
	q := h.Begin(peer)
	r := h.Fail(&q, err)
	return appendResponse(nil, &r, true, new(dateLine).at(time.Now()))
}

func errTooManyConnections() error {
	return fmt.Errorf("%w: as many connections are open as the limit", signer.ErrOverloaded)
}

func errNotHTTP() error {
	return fmt.Errorf("%w: not an HTTP/1.1 request that this daemon takes", signer.ErrInvalid)
}

func errSlowBody() error {
	return fmt.Errorf("the body did not come in time: %w", context.DeadlineExceeded)
}

func errShortBody() error { return fmt.Errorf("%w: the body ends early", signer.ErrInvalid) }
