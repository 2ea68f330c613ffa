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

// An operation is one entry of the API: which endpoint it serves, which key it is on, and
// what it does for a peer that has the grant. See operations.go for the table.
type operation[Q, A any] struct {
	api.Endpoint[Q, A]

	// key is the name of the key in a request, for the grant and the record. It is nil
	// for an operation that is not on one key.
	key func(*Q) string
	// keyless reports whether the request brings a public key of its own, so that the
	// grant is Endpoint.Keyless. It is nil if no request may.
	keyless func(*Q) bool
	// grant asks the policy, and returns the name of the key that the grant is on. It is
	// nil for most operations, which need Endpoint.Op on the key that the request names.
	grant func(*applicant, *Q) (key string, err error)
	// note writes into the record what it says of the request even if that is refused.
	// Optional.
	note func(*audit.Record, *Q)
	// unsupervised is set for an operation that may take longer than other requests.
	unsupervised bool

	// act does it. The [call] that it is given is the only way to a key, and [grantCall]
	// is the only function that makes one.
	act func(context.Context, *call, *Q) (*A, error)
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

	t := newTask(s, q, op.opOf(body), op.keyOf(body))
	if op.note != nil {
		op.note(&t.rec.Record, body)
	}

	s.audit.Expect(1)
	if !op.unsupervised {
		q.InFlight.Begin(&t.work)
	}
	answer, err = guarded(ctx, t, op, body)
	q.InFlight.End()
	if !t.finishOnce() {
		return nil, nil, errTimedOut
	}

	// The record says how it ended even if it was refused: a refused request is as
	// interesting to whoever reads the log as an answered one.
	rec = t.conclude(&t.rec, err)
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
	gen := t.service.enter()
	defer gen.leave()

	// A bug in one operation must not end the process, and with it everybody's keys.
	defer func() {
		if p := recover(); p != nil {
			t.service.log.ErrorContext(ctx, "panic", "request", t.request.ID, "op", t.rec.Op, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			answer, err = nil, errors.New("panic")
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

// conclude completes rec, which is a record of t, and hands it to the log. outcome is why
// the request was refused, or nil.
func (t *task) conclude(rec *record, outcome error) *record {
	rec.task, rec.outcome = t, outcome
	rec.Time = t.start.UTC()
	rec.Request, rec.Item = t.request.ID, t.request.item
	rec.Peer = audit.Peer{UID: t.request.Peer.UID, GID: t.request.Peer.GID, PID: t.request.Peer.PID}
	rec.Key = clip(rec.Key)
	rec.Outcome = signer.Code(outcome)
	if outcome != nil {
		rec.Reason, rec.Rule = outcome.Error(), ruleOf(outcome)
	}
	rec.entry = t.service.audit.Append(&rec.Record)
	return rec
}

// A record is the audit record of a request that has ended, on its way to the disk.
type record struct {
	audit.Record
	task    *task
	outcome error
	entry   audit.Entry
}

// commit waits for the record, and counts and logs its request. It returns why the answer
// must be withheld, or nil. It is called once.
func (r *record) commit() error {
	err := r.entry.Wait()
	s := r.task.service
	if err != nil {
		s.metrics.auditErrors.Inc()
		s.log.Error("audit record not written, answer withheld", "request", r.Request, "op", r.Op, "err", err)
		err = fmt.Errorf("%w: the audit record cannot be written, so the answer is withheld", signer.ErrUnavailable)
	}
	s.observe(r, err)
	return err
}

// refuse records a request that got no further than its syntax, and answers it with why.
func (s *Service) refuse(ctx context.Context, q *Request, op api.Op, why error) Response {
	rec := newTask(s, q, op, "").refuse(ctx, why)
	return respond(q.ID, 0, nil, why, rec)
}

func (t *task) refuse(ctx context.Context, why error) *record {
	rec := t.conclude(&t.rec, why)
	t.service.refusals.wait(ctx, t.request.Peer.UID)
	return rec
}

// withTimeLimit is ctx with the time limit of a request, unless it has that already.
func (s *Service) withTimeLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	if supervise.Supervised(ctx) {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.limits.Timeout)
}

// clip bounds a name that a peer made up, for the log.
func clip(name string) string {
	const limit = 64
	if len(name) > limit {
		return name[:limit] + "..."
	}
	return name
}
