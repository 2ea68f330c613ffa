package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// An operation is what the service does for a request of one kind.
type operation[Q, A any] func(*Service, context.Context, Request, *Q) (*A, error)

// A body is what a POST may hold: the members of one request, or several requests.
type body[Q any] struct {
	One   Q              `json:",embed"`
	Batch jsontext.Value `json:"batch"`
}

// decodeRequests decodes a body strictly. items is nil if it holds one request,
// and otherwise holds at most most: each is decoded by itself, so that one that is
// malformed is refused alone.
func decodeRequests[Q any](data []byte, most int) (one *Q, items []jsontext.Value, err error) {
	var b body[Q]
	if err := decode(data, &b); err != nil {
		return nil, nil, err
	}
	if b.Batch == nil {
		return &b.One, nil, nil
	}
	defer clear(b.Batch)
	var several struct {
		Batch []jsontext.Value `json:"batch"`
	}
	if decode(data, &several) != nil {
		return nil, nil, fmt.Errorf("%w: batch: an array of requests, with no member beside it", signer.ErrInvalid)
	}
	if n := len(several.Batch); n == 0 || n > most {
		return nil, nil, fmt.Errorf("%w: batch: %d requests: 1 to %d", signer.ErrInvalid, n, most)
	}
	return nil, several.Batch, nil
}

// answerBatch has the service do op with each item, and returns the answers in
// their order. An item is a request like any other: it has a slot, a record, and a
// place with the brake if it is refused.
func answerBatch[Q, A any](ctx context.Context, s *Service, r Request, op policy.Op, act operation[Q, A], items []jsontext.Value) *api.Results[any] {
	results := make([]any, len(items))
	s.each(ctx, len(items), func(ctx context.Context, i int) {
		answer, err := answerItem(ctx, s, r.item(i), op, act, items[i])
		results[i] = answer
		if err != nil {
			results[i] = api.ErrorResponse{Error: errorOf(r, err)}
		}
	})
	return &api.Results[any]{Results: results}
}

// answerItem answers one item. A panic, in the decoding of a key for instance, is that
// item's error: net/http, which keeps a panic in a request from ending the process,
// does not see this goroutine.
func answerItem[Q, A any](ctx context.Context, s *Service, r Request, op policy.Op, act operation[Q, A], item jsontext.Value) (answer *A, err error) {
	defer clear(item)
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "panic", "request", r.ID, "op", string(op), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			answer, err = nil, errors.New("panic")
			if werr := s.record(r, &audit.Record{Op: string(op)}, time.Now(), err); werr != nil {
				err = werr
			}
		}
	}()
	var q Q
	if err := decode(item, &q); err != nil {
		return nil, s.refuse(ctx, r, op, err)
	}
	return act(s, ctx, r, &q)
}

// each calls f with 0 to n-1 under one deadline, a few at a time: half of what one
// user may have in flight, so that a batch leaves room for the user's other
// requests. It returns when all calls have.
func (s *Service) each(ctx context.Context, n int, f func(ctx context.Context, i int)) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, max(1, s.slots.perPeer/2)) {
		workers.Go(func() { // ends when no item is left; each obeys ctx
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(ctx, i)
			}
		})
	}
	workers.Wait()
}
