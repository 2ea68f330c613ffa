package daemon

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
	"signetd/signer/supervise"
)

// Begin returns a request of peer with an id of its own.
func (*Service) Begin(peer policy.Peer) Request { return newRequest(peer) }

// Answer does what a request asks for, and returns what to tell the peer. It ends with ctx,
// or with the time limit of a request if that is earlier.
//
// The response must not leave the process before its Commit has returned.
func (s *Service) Answer(ctx context.Context, q *Request) Response {
	// The requests that were read behind this one will have records soon, which can share
	// an fsync with its own.
	s.expectBehind(q)
	defer s.forgetBehind(q)

	// The name of a key is the last part of a path, and the only part that varies.
	path := q.Path
	if prefix, _, _ := strings.Cut(api.GetKey.Path, "{"); strings.HasPrefix(path, prefix) && path != prefix {
		q.name, path = path[len(prefix):], api.GetKey.Path
	}
	e, known := entries[path]

	switch {
	case !known:
		return s.refuse(ctx, q, api.OpNone, fmt.Errorf("%w: no such path", signer.ErrNotFound))
	case e.Method != q.Method:
		r := s.refuse(ctx, q, api.OpNone, fmt.Errorf("%w: this path takes %s", signer.ErrInvalid, e.Method))
		r.Status, r.Allow = http.StatusMethodNotAllowed, e.Method
		return r
	default:
		return e.answer(ctx, s, q)
	}
}

func (s *Service) expectBehind(q *Request) {
	if q.Behind > 0 {
		q.backlog = new(atomic.Int64)
		q.backlog.Store(int64(q.Behind))
		s.recorder.audit.Expect(q.Behind)
	}
}

// forgetBehind undoes expectBehind. It may be called twice: at the end of a request, and
// by the watchdog if that does not come.
func (s *Service) forgetBehind(q *Request) {
	if q.backlog != nil {
		s.recorder.audit.Expect(-int(q.backlog.Swap(0)))
	}
}

// TimeOut answers in place of a goroutine that is stuck in w, which is work on a request
// of this service. It reports false if that goroutine has an answer after all.
func (s *Service) TimeOut(w *supervise.Work) (Response, bool) {
	t, ours := w.Owner.(*task)
	if !ours {
		return Response{}, false
	}
	rec, ok := t.timeOut()
	if !ok {
		return Response{}, false
	}

	s.forgetBehind(&t.request)
	return respond(t.request.ID, 0, nil, context.DeadlineExceeded, rec), true
}

// entries are all of the API, by path. An operation that is not among them does not exist:
// routes, the policy's operations, the client's methods and the tests of the documents
// come from the same endpoints.
var entries = byPath(
	post(api.SignJWT, signJWT, access[api.SignJWTRequest]{key: func(q *api.SignJWTRequest) string { return q.Key }}),
	post(api.VerifyJWT, verifyJWT, access[api.VerifyJWTRequest]{grant: onAnyKey[api.VerifyJWTRequest](api.OpVerify)}),
	post(api.SealJWT, sealJWT, access[api.SealJWTRequest]{key: func(q *api.SealJWTRequest) string { return q.Key }}),
	post(api.OpenJWT, openJWT, access[api.OpenJWTRequest]{
		key:   func(q *api.OpenJWTRequest) string { return q.Key },
		grant: grantOpenJWT,
		note:  noteOpenJWT,
	}),
	post(api.SignJWS, signJWS, access[api.SignJWSRequest]{key: func(q *api.SignJWSRequest) string { return q.Key }}),
	post(api.VerifyJWS, verifyJWS, access[api.VerifyJWSRequest]{
		key:   func(q *api.VerifyJWSRequest) string { return q.Key },
		grant: grantVerifyJWS,
	}),
	post(api.SignDigest, signDigest, access[api.SignDigestRequest]{key: func(q *api.SignDigestRequest) string { return q.Key }}),
	post(api.UnwrapCEK, unwrapCEK, access[api.UnwrapCEKRequest]{
		key:   func(q *api.UnwrapCEKRequest) string { return q.Key },
		grant: grantUnwrapCEK,
		note:  noteUnwrapCEK,
	}),
	post(api.DecryptJWE, decryptJWE, access[api.DecryptJWERequest]{
		key:   func(q *api.DecryptJWERequest) string { return q.Key },
		grant: grantDecryptJWE,
		note:  noteDecryptJWE,
	}),
	post(api.EncryptJWE, encryptJWE, access[api.EncryptJWERequest]{
		key:     func(q *api.EncryptJWERequest) string { return q.Key },
		keyless: func(q *api.EncryptJWERequest) bool { return q.Recipient != nil },
	}),
	post(api.SignMAC, signMAC, access[api.SignMACRequest]{key: func(q *api.SignMACRequest) string { return q.Key }}),
	post(api.VerifyMAC, verifyMAC, access[api.VerifyMACRequest]{key: func(q *api.VerifyMACRequest) string { return q.Key }}),
	post(api.WrapKey, wrapKey, access[api.WrapKeyRequest]{
		key:    func(q *api.WrapKeyRequest) string { return q.Key },
		forget: forgetWrapKey,
	}),
	post(api.UnwrapKey, unwrapKey, access[api.UnwrapKeyRequest]{
		key:  func(q *api.UnwrapKeyRequest) string { return q.Key },
		note: noteUnwrapKey,
	}),

	single(api.ListKeys, noBody, listKeys, access[struct{}]{grant: grantList}),
	single(api.GetKey, nameInPath, getKey, access[string]{key: func(name *string) string { return *name }}),
	single(api.GetJWKS, noBody, getJWKS, access[struct{}]{grant: grantList}),
	single(api.ReloadConfig, decodeReload, reloadConfig, access[api.Reload]{unsupervised: true}),

	// These use no key, need no grant and leave no record.
	entry{api.GetHealth.Route, getHealth},
	entry{api.GetReady.Route, getReady},
	entry{api.GetVersion.Route, getVersion},
)

// An entry is one path of the API with the function that answers requests for it.
type entry struct {
	api.Route
	answer func(context.Context, *Service, *Request) Response
}

func byPath(list ...entry) map[string]entry {
	m := make(map[string]entry, len(list))
	for _, e := range list {
		m[e.Path] = e
	}
	return m
}

// post is the entry of an operation whose request is the body of a POST: one request, or a
// batch of them.
func post[Q, A any](e api.Endpoint[Q, A], act func(context.Context, *call, *Q) (*A, error), a access[Q]) entry {
	op := operation[Q, A]{e, a, act}
	return entry{e.Route, func(ctx context.Context, s *Service, q *Request) Response {
		if q.BodyErr != nil {
			return s.refuse(ctx, q, e.Op, q.BodyErr)
		}
		one, items, err := decodeOneOrMany[Q](q.Body, s.limits.Batch)
		switch {
		case err != nil:
			return s.refuse(ctx, q, e.Op, err)
		case items != nil:
			return performBatch(ctx, s, q, &op, items)
		default:
			return answerOne(ctx, s, q, &op, one)
		}
	}}
}

// single is the entry of an operation that takes no batch. decode reads its request.
func single[Q, A any](e api.Endpoint[Q, A], decode func(*Request) (*Q, error), act func(context.Context, *call, *Q) (*A, error), a access[Q]) entry {
	op := operation[Q, A]{e, a, act}
	return entry{e.Route, func(ctx context.Context, s *Service, q *Request) Response {
		one, err := decode(q)
		if err != nil {
			return s.refuse(ctx, q, e.Op, err)
		}
		return answerOne(ctx, s, q, &op, one)
	}}
}

func noBody(*Request) (*struct{}, error) { return nil, nil } //nolint:nilnil // there is nothing to read

func nameInPath(q *Request) (*string, error) { return &q.name, nil }

func answerOne[Q, A any](ctx context.Context, s *Service, q *Request, op *operation[Q, A], one *Q) Response {
	answer, rec, err := perform(ctx, s, q, op, one)
	if err == errTimedOut { //nolint:errorlint // it is never wrapped
		return Response{TimedOut: true}
	}
	return respond(q.ID, len(q.Body), answer, err, rec)
}

func getHealth(_ context.Context, _ *Service, q *Request) Response {
	return respond(q.ID, 0, api.Health{Status: "ok"}, nil)
}

func getVersion(_ context.Context, s *Service, q *Request) Response {
	return respond(q.ID, 0, api.Version{Version: s.version}, nil)
}

func getReady(ctx context.Context, s *Service, q *Request) Response {
	ready := s.Ready(ctx, q.Peer)
	r := respond(q.ID, 0, ready, nil)
	if !ready.Ready {
		r.Status, r.RetryAfter = http.StatusServiceUnavailable, "1"
	}
	return r
}
