package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"signetd/daemon/api"
	"signetd/daemon/policy"
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
	method string
	serve  func(s *Server, w http.ResponseWriter, hr *http.Request, r Request)
}

var routes = map[string]route{
	api.PathSignJWT:    post(policy.OpSignJWT, (*Service).SignJWT),
	api.PathVerifyJWT:  post(policy.OpVerify, (*Service).VerifyJWT),
	api.PathSealJWT:    post(policy.OpSealJWT, (*Service).SealJWT),
	api.PathOpenJWT:    post(policy.OpOpenJWT, (*Service).OpenJWT),
	api.PathVerifyJWS:  post(policy.OpVerifyJWS, (*Service).VerifyJWS),
	api.PathSignJWS:    post(policy.OpSignJWS, (*Service).SignJWS),
	api.PathSignDigest: post(policy.OpSignDigest, (*Service).SignDigest),
	api.PathUnwrapCEK:  post(policy.OpUnwrap, (*Service).UnwrapCEK),
	api.PathDecryptJWE: post(policy.OpDecrypt, (*Service).DecryptJWE),
	api.PathEncryptJWE: post(policy.OpEncrypt, (*Service).EncryptJWE),
	api.PathSignMAC:    post(policy.OpSignMAC, (*Service).SignMAC),
	api.PathVerifyMAC:  post(policy.OpVerifyMAC, (*Service).VerifyMAC),
	api.PathWrapKey:    post(policy.OpWrapKey, (*Service).WrapKey),
	api.PathUnwrapKey:  post(policy.OpUnwrapKey, (*Service).UnwrapKey),
	api.PathKeys:       {http.MethodGet, serveKeys},
	api.PathJWKS:       {http.MethodGet, serveJWKS},
	api.PathHealth:     {http.MethodGet, serveHealth},
	api.PathReady:      {http.MethodGet, serveReady},
	api.PathVersion:    {http.MethodGet, serveVersion},
	api.PathReload:     {http.MethodPost, serveReload},
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	c, ok := hr.Context().Value(connKey{}).(*conn) // net/http has no other way to hand on a connection
	if !ok {
		writeError(w, NewRequest(policy.Peer{}), errors.New("a connection without a peer"))
		return
	}
	hr = s.drained(w, hr)
	r := NewRequest(c.peer)
	if c.surplus {
		w.Header().Set("Connection", "close")
		writeError(w, r, fmt.Errorf("%w: as many connections are open as the limit", signer.ErrOverloaded))
		return
	}
	path := hr.URL.Path
	if name, ok := strings.CutPrefix(path, api.PathKeys+"/"); ok && name != "" {
		path = api.PathKeys
	}
	rt, ok := routes[path]
	switch {
	case !ok:
		writeError(w, r, s.service.refuse(hr.Context(), r, policy.OpNone, fmt.Errorf("%w: no such path", signer.ErrNotFound)))
	case rt.method != hr.Method:
		err := s.service.refuse(hr.Context(), r, policy.OpNone, fmt.Errorf("%w: this path takes %s", signer.ErrInvalid, rt.method))
		status := statuses[signer.Code(err)]
		if errors.Is(err, signer.ErrInvalid) {
			status = http.StatusMethodNotAllowed
			w.Header().Set("Allow", rt.method)
		}
		writeStatus(w, r, status, err)
	default:
		rt.serve(s, w, hr, r)
	}
}

// post is a route that reads a Q, or a batch of them, has the service do op, and
// writes the answer.
func post[Q, A any](op policy.Op, do operation[Q, A]) route {
	return route{http.MethodPost, func(s *Server, w http.ResponseWriter, hr *http.Request, r Request) {
		data, err := s.readBody(w, hr)
		defer clear(data)
		var one *Q
		var items []jsontext.Value
		if err == nil {
			one, items, err = decodeRequests[Q](data, s.limits.Batch)
		}
		switch {
		case err != nil:
			writeError(w, r, s.service.refuse(hr.Context(), r, op, err))
		case items != nil:
			writeJSON(w, r, http.StatusOK, answerBatch(hr.Context(), s.service, r, op, do, items))
		default:
			answer, err := do(s.service, hr.Context(), r, one)
			s.write(w, r, answer, err)
		}
	}}
}

// readBody reads a body, which may hold secrets: the caller clears it.
func (s *Server) readBody(w http.ResponseWriter, hr *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, hr.Body, s.limits.RequestBytes))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return body, fmt.Errorf("%w: the body is longer than %d bytes", signer.ErrInvalid, tooLong.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return body, fmt.Errorf("the body did not come in time: %w", context.DeadlineExceeded)
	case err != nil:
		return body, fmt.Errorf("%w: the body ends early", signer.ErrInvalid)
	}
	return body, nil
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

// write sends an answer, or the error if there is one.
func (s *Server) write(w http.ResponseWriter, r Request, answer any, err error) {
	if err != nil {
		writeError(w, r, err)
		return
	}
	writeJSON(w, r, http.StatusOK, answer)
}

func writeError(w http.ResponseWriter, r Request, err error) {
	writeStatus(w, r, statuses[signer.Code(err)], err)
}

func writeStatus(w http.ResponseWriter, r Request, status int, err error) {
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter(err))
	}
	writeJSON(w, r, status, api.ErrorResponse{Error: errorOf(r, err)})
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

func writeJSON(w http.ResponseWriter, r Request, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		status = http.StatusInternalServerError
		body = []byte(`{"error":{"code":"internal","message":"internal error: report the request id","request_id":"` + r.ID + `"}}`)
	}
	defer clear(body)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Request-Id", r.ID)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // a connection without deadlines is none of ours
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // #nosec G705 -- JSON, and to no browser. The peer may be gone; the record is written
}

func serveKeys(s *Server, w http.ResponseWriter, hr *http.Request, r Request) {
	if name, ok := strings.CutPrefix(hr.URL.Path, api.PathKeys+"/"); ok {
		key, err := s.service.Key(hr.Context(), r, name)
		s.write(w, r, key, err)
		return
	}
	keys, err := s.service.Keys(hr.Context(), r)
	s.write(w, r, keys, err)
}

func serveJWKS(s *Server, w http.ResponseWriter, hr *http.Request, r Request) {
	set, err := s.service.JWKS(hr.Context(), r)
	s.write(w, r, set, err)
}

func serveHealth(s *Server, w http.ResponseWriter, _ *http.Request, r Request) {
	s.write(w, r, api.Health{Status: "ok"}, nil)
}

func serveReady(s *Server, w http.ResponseWriter, hr *http.Request, r Request) {
	ready, status := s.service.Ready(hr.Context(), r), http.StatusOK
	if !ready.Ready {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, r, status, ready)
}

func serveVersion(s *Server, w http.ResponseWriter, _ *http.Request, r Request) {
	s.write(w, r, api.Version{Version: s.version}, nil)
}

func serveReload(s *Server, w http.ResponseWriter, hr *http.Request, r Request) {
	var q api.Reload
	if hr.ContentLength != 0 { // it has nothing to say
		data, err := s.readBody(w, hr)
		if err == nil {
			err = decode(data, &q)
		}
		if err != nil {
			writeError(w, r, s.service.refuse(hr.Context(), r, policy.OpReload, err))
			return
		}
	}
	answer, err := s.service.Reload(hr.Context(), r, s.reload)
	s.write(w, r, answer, err)
}
