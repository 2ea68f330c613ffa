package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/signer"
	"signetd/signer/supervise"
)

// An operation is one entry of the API: which endpoint it serves, who may ask for it, and
// what it does for a peer that has the grant. See operations.go for the table.
type operation[Q, A any] struct {
	api.Endpoint[Q, A]
	access[Q]

	// act does it. The [call] that it is given is the only way to a key, and [grantCall]
	// is the only function that makes one.
	act func(context.Context, *call, *Q) (*A, error)
}

// An access says what an operation is on, and so which grant it needs. Its zero value is
// for the daemon itself: Endpoint.Op on no key.
type access[Q any] struct {
	// key is the name of the key in a request, for the grant and the record. It is nil
	// for an operation that is not on one key.
	key func(*Q) string
	// keyless reports whether the request brings a public key of its own, so that the
	// grant is Endpoint.Keyless. It is nil if no request may.
	keyless func(*Q) bool
	// grant asks the policy, and returns the name of the key that the grant is on. It is
	// nil for most operations, which need Endpoint.Op on the key that the request names.
	grant func(*applicant, *Q) (key string, err error)
	// note fills in the members of the record that are known before the grant, so that the
	// record of a refusal has them, too. Optional.
	note func(*audit.Record, *Q)
	// forget clears the secrets that decoding copied out of the body, once the request has
	// ended, however it ended. Optional.
	forget func(*Q)
	// unsupervised is set for an operation that may take longer than other requests.
	unsupervised bool
}

// errTimedOut says that the watchdog has already answered this request with 504.
var errTimedOut = errors.New("answered at its deadline")

// perform runs one operation for one peer: admission, grant, act, record.
//
// The answer must not leave the process before rec.commit has returned nil. That is what
// makes "nothing is answered that is not in the audit log" true: [Response.Commit] waits
// for it, and the transport sends nothing without.
func perform[Q, A any](ctx context.Context, s *Service, q *Request, op *operation[Q, A], body *Q) (answer *A, rec *record, err error) {
	ctx, cancel := s.withTimeLimit(ctx)
	defer cancel()
	if op.forget != nil {
		defer op.forget(body)
	}

	t := newTask(s, q, op.opOf(body), op.keyOf(body))
	if op.note != nil {
		op.note(&t.rec.Record, body)
	}

	s.recorder.audit.Expect(1)
	if !op.unsupervised {
		q.InFlight.Begin(&t.work)
	}
	answer, err = guarded(ctx, t, op, body)
	q.InFlight.End()
	if !t.finishOnce() {
		return nil, nil, errTimedOut
	}

	// The record says how the request ended even if it was refused: a refusal is as
	// interesting to an auditor as an answer.
	rec = t.record(&t.rec, err)
	if errors.Is(err, signer.ErrDenied) || errors.Is(err, signer.ErrInvalid) {
		s.refusals.wait(ctx, q.Peer.UID)
	}
	return answer, rec, err
}

// guarded is the part of perform that may refuse.
func guarded[Q, A any](ctx context.Context, t *task, op *operation[Q, A], body *Q) (answer *A, err error) {
	// Admission comes first, because everything below costs more than it does.
	if err := t.admit(ctx); err != nil {
		return nil, err
	}
	defer t.release()

	// One generation of config and keys serves the whole request. A reload that comes
	// meanwhile changes nothing for it, and its backends stay open until it has ended.
	gen := t.service.generations.enter()
	defer gen.leave()

	// A bug in one operation must not end the process, and with it everybody's keys.
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, t.panicked(ctx, p)
		}
	}()

	// The grant is asked for before a key is looked up by its name, so that a peer without
	// one cannot tell a key that exists from one that does not.
	c, err := grantCall(gen, t, op, body)
	if err != nil {
		return nil, err
	}
	return op.act(ctx, c, body)
}

// panicked logs a panic in t, and returns the error that takes its place. It is called by the
// function that recovered, so that the stack is that of the panic.
func (t *task) panicked(ctx context.Context, p any) error {
	t.service.recorder.log.ErrorContext(ctx, "panic", "request", t.request.ID, "op", t.rec.Op, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return errors.New("panic")
}

// refuse records a request that got no further than its syntax, and answers it with why.
func (s *Service) refuse(ctx context.Context, q *Request, op api.Op, why error) Response {
	rec := newTask(s, q, op, "").refuse(ctx, why)
	return respond(q.ID, 0, nil, why, rec)
}

func (t *task) refuse(ctx context.Context, why error) *record {
	rec := t.record(&t.rec, why)
	t.service.refusals.wait(ctx, t.request.Peer.UID)
	return rec
}

// withTimeLimit returns ctx with the time limit of a request, unless it has one already.
func (s *Service) withTimeLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	if supervise.Supervised(ctx) {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.limits.Timeout)
}

func (op *operation[Q, A]) keyOf(body *Q) string {
	if op.key == nil {
		return ""
	}
	return op.key(body)
}

// opOf returns the op that the grant and the record of a request name.
func (op *operation[Q, A]) opOf(body *Q) api.Op {
	if op.keyless != nil && op.keyless(body) {
		return op.Keyless
	}
	return op.Op
}

// onAnyKey is the grant of an operation that finds its keys by itself, among those on
// which the peer may do op.
func onAnyKey[Q any](op api.Op) func(*applicant, *Q) (string, error) {
	return func(a *applicant, _ *Q) (string, error) { return "", a.mayAny(op) }
}

// grantCall asks for the grant that op needs, and returns the call that is allowed then.
func grantCall[Q, A any](gen *generation, t *task, op *operation[Q, A], body *Q) (*call, error) {
	t.applicant = applicant{gen: gen, task: t}
	a := &t.applicant
	key, err := "", error(nil)
	switch {
	case op.grant != nil:
		key, err = op.grant(a, body)
	case op.keyless != nil && op.keyless(body):
		err = a.may(op.Keyless, "")
	default:
		key = op.keyOf(body)
		err = a.may(op.Op, key)
	}
	if err != nil {
		return nil, err
	}

	// A grant function that returns without a question would open the operation to all.
	if !a.granted {
		return nil, fmt.Errorf("operation %s did not ask the policy", op.Op)
	}
	t.call = call{task: t, gen: gen, ring: gen.ring.Load(), peer: t.request.Peer, now: t.start, key: key}
	return &t.call, nil
}
