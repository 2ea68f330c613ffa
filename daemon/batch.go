package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"signetd/daemon/api"
	"signetd/daemon/audit"
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
	if one = new(Q); decodeFast(data, one) {
		return one, nil, nil
	}
	var several struct {
		Batch []jsontext.Value `json:"batch"`
	}
	if bytes.HasPrefix(data, []byte(`{"batch":[`)) && decode(data, &several) == nil {
		items, err = batchOf(several.Batch, most)
		return nil, items, err
	}
	var b body[Q]
	if err := decode(data, &b); err != nil {
		return nil, nil, err
	}
	if b.Batch == nil {
		return &b.One, nil, nil
	}
	defer clear(b.Batch)
	if decode(data, &several) != nil {
		return nil, nil, fmt.Errorf("%w: batch: an array of requests, with no member beside it", signer.ErrInvalid)
	}
	items, err = batchOf(several.Batch, most)
	return nil, items, err
}

// batchOf bounds a batch.
func batchOf(items []jsontext.Value, most int) ([]jsontext.Value, error) {
	if n := len(items); n == 0 || n > most {
		return nil, fmt.Errorf("%w: batch: %d requests: 1 to %d", signer.ErrInvalid, n, most)
	}
	return items, nil
}

// answerBatch has the service do op with each item, and returns the answers in
// their order. An item is a request like any other: it has a slot, a record, and a
// place with the brake if it is refused.
func answerBatch[Q, A any](ctx context.Context, s *Service, r Request, op api.Op, act operation[Q, A], items []jsontext.Value) *api.Results[any] {
	results := make([]any, len(items))
	s.each(ctx, r, len(items), func(ctx context.Context, r Request, i int) error {
		answer, err := answerItem(ctx, s, r, op, act, items[i])
		if err == nil {
			results[i] = answer
		}
		return err
	}, func(i int, err error) { results[i] = api.ErrorResponse{Error: errorOf(r, err)} })
	return &api.Results[any]{Results: results}
}

// answerItem answers one item. A panic, in the decoding of a key for instance, is that
// item's error: nothing else keeps it from ending the process on this goroutine.
func answerItem[Q, A any](ctx context.Context, s *Service, r Request, op api.Op, act operation[Q, A], item jsontext.Value) (answer *A, err error) {
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
	if !decodeFast(item, &q) {
		if err := decode(item, &q); err != nil {
			return nil, s.refuse(ctx, r, op, err)
		}
	}
	return act(s, ctx, r, &q)
}

// A batch begins with a few workers. The others follow if it is not done soon, as with
// a KMS far away, and slots are free: where a token signs as fast as it can, or others
// use it, more workers wait for each other and do nothing else.
const (
	firstWorkers = 4
	crowdWorkers = 2 // in place of firstWorkers, where half of the slots are taken
	moreAfter    = time.Millisecond
)

// each calls f for items 0 to n-1 under one deadline, a few at a time: half of what one
// user may have in flight, so that a batch leaves room for the user's other
// requests. It calls failed for those that come to an error, and returns when all have
// come to something. A call that is stuck in a token when the time is over is left
// behind.
func (s *Service) each(ctx context.Context, r Request, n int, f func(ctx context.Context, r Request, i int) error, failed func(i int, err error)) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	var next, ended atomic.Int64
	all := make(chan struct{}) // closed when all items have come to something
	end := func() {
		if int(ended.Add(1)) == n {
			close(all)
		}
	}
	watches := make([]watch, n)
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			err := f(ctx, r.item(i, &watches[i]), i)
			if errors.Is(err, errAbandoned) {
				return // somebody else has answered
			}
			if err != nil {
				failed(i, err)
			}
			end()
		}
	}
	most := min(n, max(1, s.slots.perPeer/2))
	begin := min(most, firstWorkers)
	if s.slots.crowded(r.Peer.UID) {
		begin = min(begin, crowdWorkers)
	}
	for range begin {
		go work() // ends when no item is left; each obeys ctx, or is stuck and left behind
	}
	more := time.AfterFunc(moreAfter, func() {
		for range most - begin {
			if s.slots.crowded(r.Peer.UID) {
				return
			}
			go work() // as above
		}
	})
	defer more.Stop()
	select {
	case <-all:
		return
	case <-ctx.Done():
	}
	select {
	case <-all:
		return
	case <-time.After(grace):
	}
	for i := range watches {
		c := watches[i].call.Load()
		if c == nil {
			continue
		}
		if err, stuck := c.abandon(); stuck {
			failed(i, err)
			end()
		}
	}
	work() // what nobody has begun comes to the end of ctx
	<-all
}

// appendResults appends the answer to a batch.
func appendResults(b []byte, results []any) ([]byte, error) {
	b = append(b, `{"results":[`...)
	for i, r := range results {
		if i > 0 {
			b = append(b, ',')
		}
		from := len(b)
		var err error
		if b, err = appendAnswer(b, r); err != nil {
			return b, err
		}
		if i == 0 { // the others are about as long
			b = growCleared(b, (len(b)-from+1)*(len(results)-1)+len("]}\n"))
		}
	}
	return append(b, "]}"...), nil
}

// growCleared makes room for n bytes more, and leaves no copy behind.
func growCleared(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	grown := append(make([]byte, 0, len(b)+n), b...)
	clear(b)
	return grown
}
