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
	entryOf(operation[api.SignJWTRequest, api.SignJWTResponse]{
		Endpoint: api.SignJWT,
		key:      func(q *api.SignJWTRequest) string { return q.Key },
		act:      signJWT,
	}),
	entryOf(operation[api.VerifyJWTRequest, api.VerifyJWTResponse]{
		Endpoint: api.VerifyJWT,
		grant:    onAnyKey[api.VerifyJWTRequest](api.OpVerify),
		act:      verifyJWT,
	}),
	entryOf(operation[api.SealJWTRequest, api.SealJWTResponse]{
		Endpoint: api.SealJWT,
		key:      func(q *api.SealJWTRequest) string { return q.Key },
		act:      sealJWT,
	}),
	entryOf(operation[api.OpenJWTRequest, api.OpenJWTResponse]{
		Endpoint: api.OpenJWT,
		key:      func(q *api.OpenJWTRequest) string { return q.Key },
		grant:    grantOpenJWT,
		note:     noteOpenJWT,
		act:      openJWT,
	}),
	entryOf(operation[api.SignJWSRequest, api.SignJWSResponse]{
		Endpoint: api.SignJWS,
		key:      func(q *api.SignJWSRequest) string { return q.Key },
		act:      signJWS,
	}),
	entryOf(operation[api.VerifyJWSRequest, api.VerifyJWSResponse]{
		Endpoint: api.VerifyJWS,
		key:      func(q *api.VerifyJWSRequest) string { return q.Key },
		grant:    grantVerifyJWS,
		act:      verifyJWS,
	}),
	entryOf(operation[api.SignDigestRequest, api.SignDigestResponse]{
		Endpoint: api.SignDigest,
		key:      func(q *api.SignDigestRequest) string { return q.Key },
		act:      signDigest,
	}),
	entryOf(operation[api.UnwrapCEKRequest, api.UnwrapCEKResponse]{
		Endpoint: api.UnwrapCEK,
		key:      func(q *api.UnwrapCEKRequest) string { return q.Key },
		grant:    grantUnwrapCEK,
		note:     noteUnwrapCEK,
		act:      unwrapCEK,
	}),
	entryOf(operation[api.DecryptJWERequest, api.DecryptJWEResponse]{
		Endpoint: api.DecryptJWE,
		key:      func(q *api.DecryptJWERequest) string { return q.Key },
		grant:    grantDecryptJWE,
		note:     noteDecryptJWE,
		act:      decryptJWE,
	}),
	entryOf(operation[api.EncryptJWERequest, api.EncryptJWEResponse]{
		Endpoint: api.EncryptJWE,
		key:      func(q *api.EncryptJWERequest) string { return q.Key },
		keyless:  func(q *api.EncryptJWERequest) bool { return q.Recipient != nil },
		act:      encryptJWE,
	}),
	entryOf(operation[api.SignMACRequest, api.SignMACResponse]{
		Endpoint: api.SignMAC,
		key:      func(q *api.SignMACRequest) string { return q.Key },
		act:      signMAC,
	}),
	entryOf(operation[api.VerifyMACRequest, api.VerifyMACResponse]{
		Endpoint: api.VerifyMAC,
		key:      func(q *api.VerifyMACRequest) string { return q.Key },
		act:      verifyMAC,
	}),
	entryOf(operation[api.WrapKeyRequest, api.WrapKeyResponse]{
		Endpoint: api.WrapKey,
		key:      func(q *api.WrapKeyRequest) string { return q.Key },
		act:      wrapKey,
	}),
	entryOf(operation[api.UnwrapKeyRequest, api.UnwrapKeyResponse]{
		Endpoint: api.UnwrapKey,
		key:      func(q *api.UnwrapKeyRequest) string { return q.Key },
		note:     noteUnwrapKey,
		act:      unwrapKey,
	}),

	singleOf(operation[struct{}, api.Keys]{
		Endpoint: api.ListKeys,
		grant:    grantList,
		act:      listKeys,
	}, noBody),
	singleOf(operation[string, api.Key]{
		Endpoint: api.GetKey,
		key:      func(name *string) string { return *name },
		act:      getKey,
	}, func(q *Request) (*string, error) { return &q.name, nil }),
	singleOf(operation[struct{}, signer.JWKSet]{
		Endpoint: api.GetJWKS,
		grant:    grantList,
		act:      getJWKS,
	}, noBody),
	singleOf(operation[api.Reload, api.Reloaded]{
		Endpoint:     api.ReloadConfig,
		unsupervised: true,
		act:          reload,
	}, decodeReload),

	open(api.GetHealth.Route, getHealth),
	open(api.GetReady.Route, getReady),
	open(api.GetVersion.Route, getVersion),
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

// entryOf is the entry of an operation whose request is the body of a POST: one request,
// or a batch of them.
func entryOf[Q, A any](op operation[Q, A]) entry {
	return entry{op.Route, func(ctx context.Context, s *Service, q *Request) Response {
		if q.BodyErr != nil {
			return s.refuse(ctx, q, op.Op, q.BodyErr)
		}
		one, items, err := decodeOneOrMany[Q](q.Body, s.limits.Batch)
		switch {
		case err != nil:
			return s.refuse(ctx, q, op.Op, err)
		case items != nil:
			return performBatch(ctx, s, q, &op, items)
		default:
			return answerOne(ctx, s, q, &op, one)
		}
	}}
}

// singleOf is the entry of an operation that takes no batch. decode reads its request.
func singleOf[Q, A any](op operation[Q, A], decode func(*Request) (*Q, error)) entry {
	return entry{op.Route, func(ctx context.Context, s *Service, q *Request) Response {
		one, err := decode(q)
		if err != nil {
			return s.refuse(ctx, q, op.Op, err)
		}
		return answerOne(ctx, s, q, &op, one)
	}}
}

func noBody(*Request) (*struct{}, error) { return nil, nil } //nolint:nilnil // there is nothing to read

func answerOne[Q, A any](ctx context.Context, s *Service, q *Request, op *operation[Q, A], one *Q) Response {
	answer, rec, err := perform(ctx, s, q, op, one)
	if err == errTimedOut { //nolint:errorlint // it is never wrapped
		return Response{TimedOut: true}
	}
	return respond(q.ID, len(q.Body)+512 /* for the key's part */, answer, err, rec)
}

// open is the entry of a request that uses no key, needs no grant and leaves no record.
func open(r api.Route, answer func(context.Context, *Service, *Request) Response) entry {
	return entry{r, answer}
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
