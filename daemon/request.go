package daemon

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

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

	var batch struct {
		Batch []jsontext.Value `json:"batch"`
	}
	if decode(data, &batch) != nil {
		return nil, nil, fmt.Errorf("%w: batch: an array of requests, with no member beside it", signer.ErrInvalid)
	}
	if n := len(batch.Batch); n == 0 || n > limit {
		return nil, nil, fmt.Errorf("%w: batch: %d requests, where 1 to %d are allowed", signer.ErrInvalid, n, limit)
	}
	return nil, batch.Batch, nil
}
