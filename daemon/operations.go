package daemon

import (
	"context"
	"fmt"
	"net/http"

	"signetd/daemon/api"
	"signetd/signer"
)

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
	return respond(q.ID, sizeOfAnswer(q.Body), answer, err, rec)
}

// sizeOfAnswer guesses the length of an answer: that of the request and the key's part.
func sizeOfAnswer(request []byte) int { return len(request) + 512 }

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

func (op *operation[Q, A]) keyOf(body *Q) string {
	if op.key == nil {
		return ""
	}
	return op.key(body)
}

// opOf is what the grant and the record of a request call the operation.
func (op *operation[Q, A]) opOf(body *Q) api.Op {
	if op.keyless != nil && op.keyless(body) {
		return op.Keyless
	}
	return op.Op
}

// An applicant is a peer with a request, before anything is granted. All that it offers is
// to ask the policy, and to find the key that a kid belongs to.
type applicant struct {
	gen     *generation
	task    *task
	granted bool // a question was answered with yes
}

// may asks for op on a key, or on the daemon itself if key is empty. The errors are
// ErrDenied.
func (a *applicant) may(op api.Op, key string) error {
	err := a.gen.setup.Policy.Check(a.task.request.Peer, op, key)
	a.granted = a.granted || err == nil
	return err
}

// mayAny asks for op on any key at all. The errors are ErrDenied.
func (a *applicant) mayAny(op api.Op) error {
	if !a.gen.setup.Policy.AllowsAny(a.task.request.Peer, op) {
		return fmt.Errorf("%w: no grant lets uid %d %s", signer.ErrDenied, a.task.request.Peer.UID, op)
	}
	a.granted = true
	return nil
}

// mayNamed asks for op on the named key, or if name is empty on any key at all: then the
// operation itself leaves out those that the peer may not use.
func (a *applicant) mayNamed(op api.Op, name string) (key string, err error) {
	if name == "" {
		return "", a.mayAny(op)
	}
	return name, a.may(op, name)
}

// onAnyKey is the grant of an operation that finds its keys by itself, among those on
// which the peer may do op.
func onAnyKey[Q any](op api.Op) func(*applicant, *Q) (string, error) {
	return func(a *applicant, _ *Q) (string, error) { return "", a.mayAny(op) }
}

// grantCall asks for the grant that op needs, and returns the call that is allowed then.
func grantCall[Q, A any](gen *generation, t *task, op *operation[Q, A], body *Q) (*call, error) {
	a := applicant{gen: gen, task: t}
	key, err := "", error(nil)
	switch {
	case op.grant != nil:
		key, err = op.grant(&a, body)
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
	return &call{task: t, gen: gen, ring: gen.ring.Load(), peer: t.request.Peer, now: t.start, key: key}, nil
}
