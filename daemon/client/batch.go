package client

import (
	"context"
	"fmt"
	"net/http"

	"signetd/daemon/api"
	"signetd/daemon/client/http1"
	"signetd/signer"
)

// A Result is the result of one request of a batch: an answer or an error.
type Result[A any] struct {
	Answer *A
	Err    error // as the method of [Client] for one request returns it
}

// Batch sends requests for one operation in one round trip, and returns a result for each
// in their order:
//
//	client.Batch(ctx, c, api.SignJWT, []api.SignJWTRequest{...})
//
// The requests succeed and fail independently. The error that Batch itself returns
// concerns all of them: the daemon was not reached, or the batch has more requests than
// the daemon takes (64, unless its config says otherwise). The answer to a batch may be as
// long as that to a single request, 4 MiB.
func Batch[Q, A any](ctx context.Context, c *Client, e api.Endpoint[Q, A], requests []Q) ([]Result[A], error) {
	switch {
	case e.Method != http.MethodPost || e.Host:
		return nil, fmt.Errorf("%w: %s takes no batch", signer.ErrInvalid, e.Path)
	case len(requests) == 0:
		return nil, fmt.Errorf("%w: the batch is empty", signer.ErrInvalid)
	}

	call, err := c.exchange(ctx, e.Method, http1.RouteKey{Path: e.Path}, &api.Batch[Q]{Batch: requests})
	if err != nil {
		return nil, err
	}
	answer, err := answerOf[api.Results[batchResult[A]]](call)
	if err != nil {
		return nil, err
	}
	if len(answer.Results) != len(requests) {
		return nil, fmt.Errorf("the answer has %d results for %d requests", len(answer.Results), len(requests))
	}

	list := make([]Result[A], len(requests))
	for i, r := range answer.Results {
		if r.Error != nil {
			list[i].Err = errorOf(r.Error)
		} else {
			list[i].Answer = &r.Answer
		}
	}
	return list, nil
}

// A batchResult is the JSON of one result: the members of an answer, or an error.
type batchResult[A any] struct {
	Error  *api.Error `json:"error"`
	Answer A          `json:",embed"`
}
