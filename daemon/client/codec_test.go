package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
	"signetd/signer"
)

// oddStrings are strings that JSON has with escapes, or almost.
var oddStrings = []string{"", "k", "a key", `q"uote`, `back\slash`, "<&>", "tab\t", "nul\x00", "del\x7f", "ü", "bad\xff", "/~ "}

var oddClaims = []string{`{}`, `{"a":1}`, "{ \"a\" : [1, 2.50e+3 ,\"x y\"]\n}", `{"html":"<&>","u":"\u2028 ü \/"}`, `{"twice":1,"twice":{"a":2}}`, `null`, `7`, `{"a":`, ``, `{} {}`, "{\"a\":\"\xff\"}"}

// oddRequests makes requests with every odd value in every place.
func oddRequests() (all []any) {
	r := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- the same at each run
	str := func() string {
		if r.IntN(2) == 0 {
			return oddStrings[r.IntN(3)]
		}
		return oddStrings[r.IntN(len(oddStrings))]
	}
	bin := func() api.Bytes {
		if r.IntN(3) == 0 {
			return nil
		}
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.Uint32()) // #nosec G115 -- any
		}
		return b
	}

	for range 5000 {
		sign := api.SignJWTRequest{Key: str(), Claims: json.RawMessage(oddClaims[r.IntN(len(oddClaims))]), TTL: r.Int64N(3) * (r.Int64N(5) - 2), Alg: str()}
		switch r.IntN(4) {
		case 0:
			sign.Claims = nil
		case 1:
			sign.Header = &api.Header{Typ: "t" + str(), Cty: oddStrings[r.IntN(2)]}
		}
		unwrap := api.UnwrapCEKRequest{Key: str(), KID: str(), Alg: str(), EncryptedKey: bin(), Enc: str(), APU: bin(), APV: bin(), IV: bin(), Tag: bin()}
		if r.IntN(8) == 0 {
			unwrap.EPK = &jose.JSONWebKey{Key: []byte("k")}
		}
		digest := api.SignDigestRequest{Key: str(), KID: str(), Alg: str(), Digest: bin()}
		all = append(all, sign, unwrap, digest,
			api.SignJWSRequest{Key: str(), Payload: bin(), Detached: r.IntN(2) == 0},
			api.DecryptJWERequest{JWE: str(), Key: str()},
			api.Batch[api.SignJWTRequest]{Batch: []api.SignJWTRequest{sign, {Key: "k"}}},
			api.Batch[api.SignDigestRequest]{Batch: []api.SignDigestRequest{digest, digest}})
	}
	return append(all, api.Reload{}, api.VerifyMACRequest{Key: "k", Message: []byte("m")}, api.Batch[api.SignJWTRequest]{Batch: []api.SignJWTRequest{}})
}

// TestEncodeAsReflection holds the bytes of requests against those that encoding/json
// gives. What is no JSON, or no UTF-8, is ErrInvalid before anything is sent.
func TestEncodeAsReflection(t *testing.T) {
	refused := 0
	for _, in := range oddRequests() {
		want, wantErr := byReflection(in)
		got := bytes.NewBufferString("before")
		err := encode(got, in)

		if wantErr != nil || !utf8.ValidString(want) || strings.Contains(want, `\ufffd`) {
			if refused++; !errors.Is(err, signer.ErrInvalid) {
				t.Fatalf("encode(%+v) = %v, want ErrInvalid", in, err)
			}
			continue
		}
		if err != nil || got.String() != "before"+strings.TrimSuffix(want, "\n") {
			t.Fatalf("encode(%+v) = %s, %v; want %s", in, got, err, want)
		}
	}
	if refused == 0 {
		t.Error("no request was refused")
	}
}

// byReflection is what encoding/json makes of in.
func byReflection(in any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(in)
	return b.String(), err
}
