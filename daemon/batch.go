package daemon

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"signetd/daemon/api"
	"signetd/signer/supervise"
)

// A batch begins with a few workers. If it is not done soon, as with a KMS far away, and
// places are free, the others follow. Where a token signs as fast as it can, or others use
// it too, more workers would only wait for each other.
const (
	firstWorkers = 4
	crowdWorkers = 2 // in place of firstWorkers, where half of the places are taken
	moreAfter    = time.Millisecond
)

// A batch is the items of one request on their way. Each item is a request like any other:
// it has a place, a record, and a delay if it is refused.
type batch struct {
	n       int
	perform func(ctx context.Context, q Request, i int) (any, *record, error)

	// For item i, these are written by its worker, or by the watchdog in its place.
	results []any
	records []*record

	inflight []supervise.InFlight
	next     atomic.Int64  // items that a worker has taken
	ended    atomic.Int64  // items that have a result
	all      chan struct{} // closed when all have
}

func newBatch(n int) *batch {
	return &batch{n: n, results: make([]any, n), records: make([]*record, n), inflight: make([]supervise.InFlight, n), all: make(chan struct{})}
}

// performBatch performs op for each item, and answers with the results in their order.
func performBatch[Q, A any](ctx context.Context, s *Service, q *Request, op *operation[Q, A], items []jsontext.Value) Response {
	b := newBatch(len(items))
	b.perform = func(ctx context.Context, q Request, i int) (any, *record, error) {
		defer clear(items[i])
		return performItem(ctx, s, &q, op, items[i])
	}
	s.run(ctx, q, b)

	records := make([]*record, 0, len(b.records))
	for _, rec := range b.records {
		if rec != nil {
			records = append(records, rec)
		}
	}
	return respond(q.ID, len(q.Body)+answerRoom*len(items), &api.Results[any]{Results: b.results}, nil, records...)
}

// performItem performs op for one item. A panic, in the decoding of a key for instance, is
// that item's error: nothing else keeps it from ending the process, since the item is not
// on the goroutine of a connection.
func performItem[Q, A any](ctx context.Context, s *Service, q *Request, op *operation[Q, A], item jsontext.Value) (answer any, rec *record, err error) {
	defer func() {
		if p := recover(); p != nil {
			t := newTask(s, q, op.Op, "")
			err = t.panicked(ctx, p)
			answer, rec = nil, t.record(&t.rec, err)
		}
	}()

	var body Q
	if err := decode(item, &body); err != nil {
		return nil, newTask(s, q, op.Op, "").refuse(ctx, err), err
	}
	return perform(ctx, s, q, op, &body)
}

// run performs all items of b under one deadline, and returns when each has a result. At
// most half of the places of one user are used, so that a batch leaves room for the user's
// other requests.
func (s *Service) run(ctx context.Context, q *Request, b *batch) {
	ctx, cancel := s.withTimeLimit(ctx)
	defer cancel()

	// A worker and the timer below may run a moment longer than this function, and the
	// transport puts the next request of its connection into *q.
	own := *q
	q = &own

	most := min(b.n, max(1, s.admission.perPeer/2))
	first := min(most, firstWorkers)
	if s.admission.crowded(q.Peer.UID) {
		first = min(first, crowdWorkers)
	}
	for range first {
		go b.work(ctx, q) // ends when no item is left; each obeys ctx, or is stuck and left behind
	}

	more := time.AfterFunc(moreAfter, func() {
		for range most - first {
			if s.admission.crowded(q.Peer.UID) {
				return
			}
			go b.work(ctx, q) // as above
		}
	})
	defer more.Stop()

	select {
	case <-b.all:
		return
	case <-ctx.Done():
	}
	select {
	case <-b.all:
		return
	case <-time.After(supervise.Grace):
	}

	// The time is over. Items that are stuck in a call get their answer here, and items
	// that no worker has begun end at once, with the error of ctx.
	for i := range b.inflight {
		if w := b.inflight[i].Work(); w != nil {
			if rec, ok := w.Owner.(*task).timeOut(); ok {
				b.end(q, i, nil, rec, context.DeadlineExceeded)
			}
		}
	}
	b.work(ctx, q)
	<-b.all
}

// work takes one item after the other until none is left.
func (b *batch) work(ctx context.Context, q *Request) {
	for i := int(b.next.Add(1)) - 1; i < b.n; i = int(b.next.Add(1)) - 1 {
		item := *q
		item.item, item.InFlight, item.backlog = i+1, &b.inflight[i], nil

		answer, rec, err := b.perform(ctx, item, i)
		if errors.Is(err, errTimedOut) {
			return // run has answered for the item, and may have returned
		}
		b.end(q, i, answer, rec, err)
	}
}

// end notes what became of item i.
func (b *batch) end(q *Request, i int, answer any, rec *record, err error) {
	if err != nil {
		answer = api.ErrorResponse{Error: errorOf(q.ID, err)}
	}
	b.results[i], b.records[i] = answer, rec

	if int(b.ended.Add(1)) == b.n {
		close(b.all)
	}
}
