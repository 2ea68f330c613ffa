package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"signetd/daemon/api"
	"signetd/signer"
)

// statuses maps the code of an error to an HTTP status.
var statuses = map[string]int{
	"invalid":           http.StatusBadRequest,
	"denied":            http.StatusForbidden,
	"not_found":         http.StatusNotFound,
	"unsupported":       http.StatusUnprocessableEntity,
	"decrypt_failed":    http.StatusUnprocessableEntity,
	"overloaded":        http.StatusTooManyRequests,
	"unavailable":       http.StatusServiceUnavailable,
	"deadline":          http.StatusGatewayTimeout,
	signer.CodeInternal: http.StatusInternalServerError,
}

// A route is one path of the API with the method that it takes.
type route struct {
	path   string
	method string
	serve  func(ctx context.Context, s *Server, q *request) response
}

// A request is what the API needs of an HTTP request.
type request struct {
	Request
	method, path string
	body         []byte // may hold secrets: whoever read it clears it
	bodyErr      error  // why it could not be read
}

// A response is the answer to a request. It must not leave before the records of the
// request are written.
type response struct {
	status     int
	body       []byte // may hold secrets: whoever wrote it clears it
	retryAfter string
	allow      string
	abandoned  bool // somebody else has answered
}

// routes are those of the API by their paths.
var routes = byPath(
	post(api.SignJWT.Path, api.OpSignJWT, (*Service).SignJWT),
	post(api.VerifyJWT.Path, api.OpVerify, (*Service).VerifyJWT),
	post(api.SealJWT.Path, api.OpSealJWT, (*Service).SealJWT),
	post(api.OpenJWT.Path, api.OpOpenJWT, (*Service).OpenJWT),
	post(api.VerifyJWS.Path, api.OpVerifyJWS, (*Service).VerifyJWS),
	post(api.SignJWS.Path, api.OpSignJWS, (*Service).SignJWS),
	post(api.SignDigest.Path, api.OpSignDigest, (*Service).SignDigest),
	post(api.UnwrapCEK.Path, api.OpUnwrap, (*Service).UnwrapCEK),
	post(api.DecryptJWE.Path, api.OpDecrypt, (*Service).DecryptJWE),
	post(api.EncryptJWE.Path, api.OpEncrypt, (*Service).EncryptJWE),
	post(api.SignMAC.Path, api.OpSignMAC, (*Service).SignMAC),
	post(api.VerifyMAC.Path, api.OpVerifyMAC, (*Service).VerifyMAC),
	post(api.WrapKey.Path, api.OpWrapKey, (*Service).WrapKey),
	post(api.UnwrapKey.Path, api.OpUnwrapKey, (*Service).UnwrapKey),
	route{api.ListKeys.Path, http.MethodGet, serveKeys},
	route{api.GetJWKS.Path, http.MethodGet, serveJWKS},
	route{api.GetHealth.Path, http.MethodGet, serveHealth},
	route{api.GetReady.Path, http.MethodGet, serveReady},
	route{api.GetVersion.Path, http.MethodGet, serveVersion},
	route{api.ReloadConfig.Path, http.MethodPost, serveReload},
)

func byPath(list ...route) map[string]route {
	m := make(map[string]route, len(list))
	for _, rt := range list {
		m[rt.path] = rt
	}
	return m
}

// answer does what a request asks.
func (s *Server) answer(ctx context.Context, q *request) response {
	path := q.path
	if name, ok := strings.CutPrefix(path, api.ListKeys.Path+"/"); ok && name != "" {
		path = api.ListKeys.Path
	}
	rt, ok := routes[path]
	switch {
	case !ok:
		return fail(q, s.service.refuse(ctx, q.Request, api.OpNone, fmt.Errorf("%w: no such path", signer.ErrNotFound)))
	case rt.method != q.method:
		err := s.service.refuse(ctx, q.Request, api.OpNone, fmt.Errorf("%w: this path takes %s", signer.ErrInvalid, rt.method))
		a := fail(q, err)
		if errors.Is(err, signer.ErrInvalid) {
			a.status, a.allow = http.StatusMethodNotAllowed, rt.method
		}
		return a
	default:
		return rt.serve(ctx, s, q)
	}
}

// post is a route that reads a Q, or a batch of them, has the service do op, and
// answers.
func post[Q, A any](path string, op api.Op, do operation[Q, A]) route {
	return route{path, http.MethodPost, func(ctx context.Context, s *Server, q *request) response {
		one, items, err := (*Q)(nil), []jsontext.Value(nil), q.bodyErr
		if err == nil {
			one, items, err = decodeRequests[Q](q.body, s.limits.Batch)
		}
		switch {
		case err != nil:
			return fail(q, s.service.refuse(ctx, q.Request, op, err))
		case items != nil:
			return succeed(q, answerBatch(ctx, s.service, q.Request, op, do, items))
		default:
			answer, err := do(s.service, ctx, q.Request, one)
			return respond(q, answer, err)
		}
	}}
}

// decode reads JSON strictly: one value with known members, none twice. An error
// says where and never what: the body may hold secrets.
func decode(body []byte, q any) error {
	err := json.Unmarshal(body, q, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Errorf("%w: body: a member is there twice", signer.ErrInvalid)
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: body: not JSON at byte %d", signer.ErrInvalid, syntax.ByteOffset)
	case errors.As(err, &semantic):
		problem := "wrong type or form of value"
		if errors.Is(err, json.ErrUnknownName) {
			problem = "no such member"
		}
		return fmt.Errorf("%w: body: %s at %.64q", signer.ErrInvalid, problem, string(semantic.JSONPointer))
	default:
		return fmt.Errorf("%w: body: not the JSON of this request", signer.ErrInvalid)
	}
}

// respond is the answer, or the error if there is one.
func respond(q *request, answer any, err error) response {
	if err != nil {
		return fail(q, err)
	}
	return succeed(q, answer)
}

// fail is the answer that err makes.
func fail(q *request, err error) response {
	if errors.Is(err, errAbandoned) {
		return response{abandoned: true}
	}
	a := encodeAnswer(q, statuses[signer.Code(err)], api.ErrorResponse{Error: errorOf(q.Request, err)})
	if a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable {
		a.retryAfter = retryAfter(err)
	}
	return a
}

func succeed(q *request, answer any) response { return encodeAnswer(q, http.StatusOK, answer) }

func encodeAnswer(q *request, status int, answer any) response {
	body, err := appendAnswer(nil, answer)
	if err != nil {
		return response{
			status: http.StatusInternalServerError,
			body:   []byte(`{"error":{"code":"internal","message":"internal error: report the request id","request_id":"` + q.ID + `"}}` + "\n"),
		}
	}
	return response{status: status, body: append(body, '\n')}
}

// appendAnswer appends an answer in JSON.
func appendAnswer(b []byte, answer any) ([]byte, error) {
	if results, ok := answer.(*api.Results[any]); ok {
		return appendResults(b, results.Results)
	}
	if b, ok := appendFast(b, answer); ok {
		return b, nil
	}
	text, err := json.Marshal(answer)
	defer clear(text)
	return append(growCleared(b, len(text)+1), text...), err
}

// errorOf is what an answer says of err.
func errorOf(r Request, err error) api.Error {
	code, message := signer.Code(err), err.Error()
	if code == signer.CodeInternal {
		message = "internal error: report the request id" // the text stays in the log
	}
	return api.Error{Code: code, Message: message, RequestID: r.ID, Rule: rule(err)}
}

// retryAfter is what the error asks to wait, in whole seconds: one by default.
func retryAfter(err error) string {
	wait := signer.RetryAfter(err)
	return strconv.FormatInt(max(1, int64((wait+time.Second-1)/time.Second)), 10)
}

func serveKeys(ctx context.Context, s *Server, q *request) response {
	if name, ok := strings.CutPrefix(q.path, api.ListKeys.Path+"/"); ok {
		key, err := s.service.Key(ctx, q.Request, name)
		return respond(q, key, err)
	}
	keys, err := s.service.Keys(ctx, q.Request)
	return respond(q, keys, err)
}

func serveJWKS(ctx context.Context, s *Server, q *request) response {
	set, err := s.service.JWKS(ctx, q.Request)
	return respond(q, set, err)
}

func serveHealth(_ context.Context, _ *Server, q *request) response {
	return succeed(q, api.Health{Status: "ok"})
}

func serveReady(ctx context.Context, s *Server, q *request) response {
	ready := s.service.Ready(ctx, q.Request)
	a := succeed(q, ready)
	if !ready.Ready {
		a.status, a.retryAfter = http.StatusServiceUnavailable, "1"
	}
	return a
}

func serveVersion(_ context.Context, s *Server, q *request) response {
	return succeed(q, api.Version{Version: s.version})
}

func serveReload(ctx context.Context, s *Server, q *request) response {
	err := q.bodyErr
	if err == nil && len(q.body) > 0 { // it has nothing to say
		err = decode(q.body, &api.Reload{})
	}
	if err != nil {
		return fail(q, s.service.refuse(ctx, q.Request, api.OpReload, err))
	}
	answer, err := s.service.Reload(ctx, q.Request, s.reload)
	return respond(q, answer, err)
}
