package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"signetd/daemon/api"
	"signetd/signer"
)

// A Kind is what the requests of a batch ask for: one of the variables below.
type Kind[Request, Answer any] struct{ path string }

// The kinds of [Batch]. Each does for many what the method of [Client] does for one.
var (
	SignJWTs    = Kind[api.SignJWTRequest, api.SignJWTResponse]{api.PathSignJWT}
	VerifyJWTs  = Kind[api.VerifyJWTRequest, api.VerifyJWTResponse]{api.PathVerifyJWT}
	SealJWTs    = Kind[api.SealJWTRequest, api.SealJWTResponse]{api.PathSealJWT}
	OpenJWTs    = Kind[api.OpenJWTRequest, api.OpenJWTResponse]{api.PathOpenJWT}
	SignJWSs    = Kind[api.SignJWSRequest, api.SignJWSResponse]{api.PathSignJWS}
	VerifyJWSs  = Kind[api.VerifyJWSRequest, api.VerifyJWSResponse]{api.PathVerifyJWS}
	SignDigests = Kind[api.SignDigestRequest, api.SignDigestResponse]{api.PathSignDigest}
	UnwrapCEKs  = Kind[api.UnwrapCEKRequest, api.UnwrapCEKResponse]{api.PathUnwrapCEK}
	DecryptJWEs = Kind[api.DecryptJWERequest, api.DecryptJWEResponse]{api.PathDecryptJWE}
	EncryptJWEs = Kind[api.EncryptJWERequest, api.EncryptJWEResponse]{api.PathEncryptJWE}
	SignMACs    = Kind[api.SignMACRequest, api.SignMACResponse]{api.PathSignMAC}
	VerifyMACs  = Kind[api.VerifyMACRequest, api.VerifyMACResponse]{api.PathVerifyMAC}
	WrapKeys    = Kind[api.WrapKeyRequest, api.WrapKeyResponse]{api.PathWrapKey}
	UnwrapKeys  = Kind[api.UnwrapKeyRequest, api.UnwrapKeyResponse]{api.PathUnwrapKey}
)

// A Result is what became of one request of a batch: an answer or an error.
type Result[Answer any] struct {
	Answer *Answer
	Err    error // as the method of [Client] returns it
}

// Batch sends requests of one kind in one round trip and returns a result for each,
// in their order. They succeed and fail independently. An error is that of the
// batch as a whole: of the way to the daemon, or that it has more requests than
// the daemon takes (64, unless its config says otherwise). The size of a batch's
// answer is bounded as that of any other.
func Batch[Request, Answer any](ctx context.Context, c *Client, kind Kind[Request, Answer], requests []Request) ([]Result[Answer], error) {
	if len(requests) == 0 {
		return nil, fmt.Errorf("%w: a batch of no requests", signer.ErrInvalid)
	}
	a, err := post[api.Results[json.RawMessage]](ctx, c, lane{path: kind.path}, api.Batch[Request]{Batch: requests})
	if err != nil {
		return nil, err
	}
	if len(a.Results) != len(requests) {
		return nil, fmt.Errorf("the answer has %d results for %d requests", len(a.Results), len(requests))
	}
	results := make([]Result[Answer], len(requests))
	for i, text := range a.Results {
		results[i] = resultOf[Answer](text)
	}
	return results, nil
}

var errResult = errors.New("a result of the batch is not what signetd's API has: client and daemon of different versions?")

func resultOf[Answer any](text json.RawMessage) Result[Answer] {
	defer clear(text) // which may hold a key or a plaintext
	var failed struct {
		Error *api.Error `json:"error"`
	}
	answer := new(Answer)
	switch {
	case json.Unmarshal(text, &failed) != nil:
		return Result[Answer]{Err: errResult}
	case failed.Error != nil:
		return Result[Answer]{Err: wireError(*failed.Error)}
	case json.Unmarshal(text, answer) != nil:
		return Result[Answer]{Err: errResult}
	}
	return Result[Answer]{Answer: answer}
}
