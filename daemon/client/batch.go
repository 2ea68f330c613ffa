package client

import (
	"bytes"
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
	SignJWTs    = Kind[api.SignJWTRequest, api.SignJWTResponse]{api.SignJWT.Path}
	VerifyJWTs  = Kind[api.VerifyJWTRequest, api.VerifyJWTResponse]{api.VerifyJWT.Path}
	SealJWTs    = Kind[api.SealJWTRequest, api.SealJWTResponse]{api.SealJWT.Path}
	OpenJWTs    = Kind[api.OpenJWTRequest, api.OpenJWTResponse]{api.OpenJWT.Path}
	SignJWSs    = Kind[api.SignJWSRequest, api.SignJWSResponse]{api.SignJWS.Path}
	VerifyJWSs  = Kind[api.VerifyJWSRequest, api.VerifyJWSResponse]{api.VerifyJWS.Path}
	SignDigests = Kind[api.SignDigestRequest, api.SignDigestResponse]{api.SignDigest.Path}
	UnwrapCEKs  = Kind[api.UnwrapCEKRequest, api.UnwrapCEKResponse]{api.UnwrapCEK.Path}
	DecryptJWEs = Kind[api.DecryptJWERequest, api.DecryptJWEResponse]{api.DecryptJWE.Path}
	EncryptJWEs = Kind[api.EncryptJWERequest, api.EncryptJWEResponse]{api.EncryptJWE.Path}
	SignMACs    = Kind[api.SignMACRequest, api.SignMACResponse]{api.SignMAC.Path}
	VerifyMACs  = Kind[api.VerifyMACRequest, api.VerifyMACResponse]{api.VerifyMAC.Path}
	WrapKeys    = Kind[api.WrapKeyRequest, api.WrapKeyResponse]{api.WrapKey.Path}
	UnwrapKeys  = Kind[api.UnwrapKeyRequest, api.UnwrapKeyResponse]{api.UnwrapKey.Path}
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
	a, err := post[results](ctx, c, lane{path: kind.path}, batch[Request]{requests})
	if err != nil {
		return nil, err
	}
	if len(a.Results) != len(requests) {
		return nil, fmt.Errorf("the answer has %d results for %d requests", len(a.Results), len(requests))
	}
	list := make([]Result[Answer], len(requests))
	for i, text := range a.Results {
		list[i] = resultOf[Answer](text)
	}
	return list, nil
}

// A batch is the body of a request with several in it.
type batch[Request any] struct {
	Batch []Request `json:"batch"`
}

// appendPlain appends the JSON of b if all its requests are ones that are encoded
// without reflection.
func (b batch[Request]) appendPlain(dst []byte) ([]byte, bool) {
	dst = append(dst, `{"batch":[`...)
	for i := range b.Batch {
		if i > 0 {
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = appendPlain(dst, &b.Batch[i]); !ok {
			return dst, false
		}
	}
	return append(dst, "]}"...), true
}

// Results are the answers to a batch, each in JSON.
type results struct {
	Results []json.RawMessage `json:"results"`
}

// split reads results as the daemon writes them, and reports false for any other
// form. Each is a copy.
func (r *results) split(body []byte) bool {
	list, ok := bytes.CutPrefix(body, []byte(`{"results":[`))
	if !ok {
		return false
	}
	list, ok = bytes.CutSuffix(list, []byte("]}"))
	var all []json.RawMessage
	for ok && len(list) > 0 {
		n := objectEnd(list)
		if ok = n > 0 && (n == len(list) || list[n] == ',' && n+1 < len(list)); !ok {
			break
		}
		all = append(all, bytes.Clone(list[:n]))
		list = list[min(n+1, len(list)):]
	}
	if ok {
		r.Results = all
	}
	return ok
}

// objectEnd returns where the JSON object at the beginning of b ends, or 0.
func objectEnd(b []byte) int {
	depth, text := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
		if depth == 0 {
			if b[0] != '{' {
				return 0
			}
			return i + 1
		}
	}
	return 0
}

var errResult = errors.New("a result of the batch is not what signetd's API has: client and daemon of different versions?")

func resultOf[Answer any](text json.RawMessage) Result[Answer] {
	defer clear(text) // which may hold a key or a plaintext
	var failed struct {
		Error *api.Error `json:"error"`
	}
	answer := new(Answer)
	switch {
	case decodePlain(text, answer):
		return Result[Answer]{Answer: answer}
	case json.Unmarshal(text, &failed) != nil:
		return Result[Answer]{Err: errResult}
	case failed.Error != nil:
		return Result[Answer]{Err: wireError(*failed.Error)}
	case json.Unmarshal(text, answer) != nil:
		return Result[Answer]{Err: errResult}
	}
	return Result[Answer]{Answer: answer}
}
