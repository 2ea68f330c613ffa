package client

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"signetd/daemon/api"
)

// TestBatchAsReflection holds the bytes of batches against those that package json
// makes.
func TestBatchAsReflection(t *testing.T) {
	var jwts []api.SignJWTRequest
	var digests []api.SignDigestRequest
	for _, q := range oddRequests() {
		switch q := q.(type) {
		case api.SignJWTRequest:
			jwts = append(jwts, q)
		case api.SignDigestRequest:
			digests = append(digests, q)
		}
	}
	same := func(in any) {
		want, wantErr := byReflection(in)
		got, err := encodeBody(nil, in)
		if (err != nil) != (wantErr != nil) || err == nil && string(got) != want {
			t.Fatalf("encodeBody(%+v) = %s, %v; want %s, %v", in, got, err, want, wantErr)
		}
	}
	for i := 0; i+3 <= len(jwts); i += 3 {
		same(batch[api.SignJWTRequest]{jwts[i : i+3]})
	}
	for i := 0; i+2 <= len(digests); i += 2 {
		same(batch[api.SignDigestRequest]{digests[i : i+2]})
	}
	same(batch[api.VerifyMACRequest]{[]api.VerifyMACRequest{{Key: "k"}}})
	same(batch[api.SignJWTRequest]{[]api.SignJWTRequest{}})
}

// FuzzSplit: what is split by hand package json splits alike, if it is JSON at all.
// If it is not, the decoding of a part says so.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		`{"results":[]}`, `{"results":[{}]}`, `{"results":[{"token":"a.b.c","kid":"k"},{"error":{"code":"denied","message":"{\"}]"}}]}`,
		`{"results":[{},]}`, `{"results":[{}{}]}`, `{"results":[{} ,{}]}`, `{"results":[1]}`, `{"results":["}"]}`, `{"results":[{"a":[{}]}]}`, `{"results":[{"a":"\\"}]}`, `{"results":[}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want results
		if !got.split(data) || json.Unmarshal(data, &want) != nil {
			return
		}
		if len(got.Results) != len(want.Results) {
			t.Fatalf("%s: %d results, want %d", data, len(got.Results), len(want.Results))
		}
		for i := range got.Results {
			if diff := cmp.Diff(string(want.Results[i]), string(got.Results[i])); diff != "" {
				t.Fatalf("%s: result %d: %s", data, i, diff)
			}
		}
	})
}
