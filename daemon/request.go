package daemon

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
	"signetd/signer/supervise"
)

// A Request is one request of a peer. [Service.Begin] makes it, and the transport sets the
// other exported fields before it hands the request to [Service.Answer].
type Request struct {
	ID           string
	Peer         policy.Peer // as the kernel knows it
	Method, Path string
	Body         []byte // may hold secrets: the transport clears it after the answer
	BodyErr      error  // why the body could not be read, or nil

	// Behind is about how many requests the transport has read behind this one.
	Behind int
	// InFlight shows the work on this request to a watchdog, which calls
	// [Service.TimeOut] when the work is overdue. It is nil if no watchdog looks.
	InFlight *supervise.InFlight

	name    string        // of the key, if it is in the path
	item    int           // the place in a batch, counted from 1; 0 outside of one
	backlog *atomic.Int64 // the records that were expected for Behind; nil if none
}

// newRequest returns a request of peer with an id of its own: 64 random bits in
// hexadecimal. The id is no secret, it names the request in logs. The bits come from the
// runtime's generator, ChaCha8 with a seed from the kernel for each thread, so that they
// are as unlike each other as the kernel's, without a system call for each.
func newRequest(peer policy.Peer) Request {
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], rand.Uint64()) // #nosec G404 -- see above
	var text [16]byte
	hex.Encode(text[:], id[:])
	return Request{ID: string(text[:]), Peer: peer}
}

// A Response is the answer to a request. The transport commits it, sends what its exported
// fields say, and clears the body.
type Response struct {
	RequestID  string // the value of that header
	Status     int
	Body       []byte // JSON and a line feed; may hold secrets
	RetryAfter string // the value of that header, or ""
	Allow      string // likewise
	// TimedOut is set if the watchdog has answered the request already, so that there is
	// nothing to send. The other fields are empty then.
	TimedOut bool

	records []*record
}

// Commit waits until the audit records of the request are written. If one cannot be
// written, it puts an error in the place of the answer, which is withheld, and returns
// it. No response may leave the process before its Commit has returned.
func (r *Response) Commit() error {
	var withheld error
	for _, rec := range r.records {
		if err := rec.commit(); err != nil && withheld == nil {
			withheld = err
		}
	}
	r.records = nil

	if withheld != nil {
		clear(r.Body)
		*r = respond(r.RequestID, 0, nil, withheld)
	}
	return withheld
}

// A recorder writes the audit records of requests, and counts and logs what became of the
// requests. It is safe for concurrent use.
type recorder struct {
	audit   *audit.Log
	metrics *Metrics
	log     *slog.Logger
	outages outages
}

// A record is the audit record of a request that has ended, on its way to the disk.
type record struct {
	audit.Record
	recorder *recorder
	peer     policy.Peer
	start    time.Time
	outcome  error
	logged   audit.Entry
}

// append completes rec, which is for the request q that came at start, and hands it to the
// log. outcome is why the request was refused, or nil.
func (r *recorder) append(rec *record, q *Request, start time.Time, outcome error) *record {
	rec.recorder, rec.peer, rec.start, rec.outcome = r, q.Peer, start, outcome
	rec.Time = start.UTC()
	rec.Request, rec.Item = q.ID, q.item
	rec.Peer = audit.Peer{UID: q.Peer.UID, GID: q.Peer.GID, PID: q.Peer.PID}
	rec.Key = clip(rec.Key)
	rec.Outcome = signer.Code(outcome)
	if outcome != nil {
		rec.Reason, rec.Rule = outcome.Error(), ruleOf(outcome)
	}
	rec.logged = r.audit.Append(&rec.Record)
	return rec
}

// commit waits for the record, and counts and logs its request. It returns why the answer
// must be withheld, or nil. It is called once.
func (rec *record) commit() error {
	err := rec.logged.Wait()
	r := rec.recorder
	if err != nil {
		r.metrics.auditErrors.Inc()
		r.log.Error("audit record not written, answer withheld", "request", rec.Request, "op", rec.Op, "err", err)
		err = fmt.Errorf("%w: the audit record cannot be written, so the answer is withheld", signer.ErrUnavailable)
	}
	r.observe(rec, err)
	return err
}

// decode reads JSON strictly: one value with known members, each at most once. The error
// says where the mistake is and never what is there: the body may hold secrets.
func decode(body []byte, into any) error {
	err := json.Unmarshal(body, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}

	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Errorf("%w: body: a member appears twice", signer.ErrInvalid)
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

// decodeOneOrMany decodes the body of a POST strictly: the members of one request, or
// a batch of them, at most limit. items is nil unless it is a batch. Each item is decoded
// later and by itself, so that a malformed one is refused alone.
func decodeOneOrMany[Q any](data []byte, limit int) (one *Q, items []jsontext.Value, err error) {
	var body struct {
		One   Q              `json:",embed"`
		Batch jsontext.Value `json:"batch"`
	}
	if err := decode(data, &body); err != nil {
		return nil, nil, err
	}
	if body.Batch == nil {
		return &body.One, nil, nil
	}
	defer clear(body.Batch)

	var many struct {
		Batch []jsontext.Value `json:"batch"`
	}
	if decode(data, &many) != nil {
		return nil, nil, fmt.Errorf("%w: batch: an array of requests, with no member beside it", signer.ErrInvalid)
	}
	if n := len(many.Batch); n == 0 || n > limit {
		return nil, nil, fmt.Errorf("%w: batch: %d requests, where 1 to %d are allowed", signer.ErrInvalid, n, limit)
	}
	return nil, many.Batch, nil
}

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

// answerRoom is how many bytes an answer has, in nearly every case, beside what it repeats of
// its request.
const answerRoom = 512

// respond returns the response to the request with the given id: answer in JSON, or err if
// there is one. size is the length in bytes of what the answer may repeat of the request.
func respond(id string, size int, answer any, err error, records ...*record) Response {
	r := Response{RequestID: id, Status: http.StatusOK, records: records}
	if err != nil {
		code := signer.Code(err)
		r.Status, answer = statuses[code], api.ErrorResponse{Error: errorOf(id, err)}
		if r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable {
			r.RetryAfter = retryAfter(err)
		}
	}

	// An answer may be a secret. It is written into one buffer that is long enough in
	// nearly every case, because a buffer that must grow leaves a copy behind.
	body := bytes.NewBuffer(make([]byte, 0, size+answerRoom))
	if json.MarshalWrite(body, answer) != nil {
		r.Status, r.RetryAfter = http.StatusInternalServerError, ""
		body.Reset()
		body.WriteString(`{"error":{"code":"internal","message":"` + internalMessage + `","request_id":"` + id + `"}}`)
	}
	body.WriteByte('\n')
	r.Body = body.Bytes()
	return r
}

// internalMessage is all that a peer learns of a bug. The text of the error is in the log.
const internalMessage = "internal error: report the request id"

// errorOf is what an answer says of err.
func errorOf(id string, err error) api.Error {
	code, message := signer.Code(err), err.Error()
	if code == signer.CodeInternal {
		message = internalMessage
	}
	return api.Error{Code: code, Message: message, RequestID: id, Rule: ruleOf(err)}
}

// ruleOf is the rule of a claim policy that refused a request with err, or "".
func ruleOf(err error) string {
	var denial *policy.Denial
	if errors.As(err, &denial) {
		return denial.Rule
	}
	return ""
}

// retryAfter is how long the error asks to wait, in whole seconds and one at least.
func retryAfter(err error) string {
	wait := signer.RetryAfter(err)
	return strconv.FormatInt(max(1, int64((wait+time.Second-1)/time.Second)), 10)
}

// observe counts and logs a request that has ended with a record. withheld is why its
// answer does not leave, or nil.
func (r *recorder) observe(rec *record, withheld error) {
	took, answered := time.Since(rec.start), rec.Outcome
	if withheld != nil {
		answered = signer.Code(withheld)
	}

	// Without a kid the key is not known to be one of the config. What a peer made up must
	// not become a label.
	key, alg := rec.Key, rec.Alg
	if rec.KID == "" {
		key, alg = "", ""
	}
	r.metrics.observeRequest(requestLabels{rec.Op, key, alg, answered}, took)
	r.metrics.observePolicy(key, &rec.Record)
	r.outages.track(r.log, &rec.Record, rec.outcome)

	if rec.Outcome == signer.CodeInternal {
		r.log.Error("internal error", "request", rec.Request, "peer", rec.peer, "op", rec.Op, "key", rec.Key, "err", rec.outcome)
	}
	if r.log.Enabled(context.Background(), slog.LevelDebug) { //nolint:forbidigo // the log takes no part in the request
		r.log.Debug("request", "request", rec.Request, "peer", rec.peer, "op", rec.Op, "key", rec.Key, "kid", rec.KID, "alg", rec.Alg, "outcome", answered, "dur", took)
	}
}

// clip bounds a name that a peer made up, for the log.
func clip(name string) string {
	const limit = 64
	if len(name) > limit {
		return name[:limit] + "..."
	}
	return name
}
