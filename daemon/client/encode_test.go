package client

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"signetd/daemon/api"
)

// byReflection is what package json makes of in.
func byReflection(in any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(in)
	return b.String(), err
}

// oddStrings are strings that JSON has with escapes, or almost.
var oddStrings = []string{"", "k", "a key", `q"uote`, `back\slash`, "<&>", "tab\t", "nul\x00", "del\x7f", "ü", "\u2028", "bad\xff", "/~ "}

var oddClaims = []string{`{}`, `{"a":1}`, "{ \"a\" : [1, 2.50e+3 ,\"x y\"]\n}", `{"html":"<&>","u":"\u2028 ü"}`, `null`, `7`, `{"a":`, ``, `{} {}`, "{\"a\":\"\xff\"}"}

// oddRequests makes requests of those that are encoded by hand, with every odd value
// in every place.
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
		q := api.SignJWTRequest{Key: str(), Claims: json.RawMessage(oddClaims[r.IntN(len(oddClaims))]), TTL: r.Int64N(3) * (r.Int64N(5) - 2), Alg: str()}
		switch r.IntN(4) {
		case 0:
			q.Claims = nil
		case 1:
			q.Header = &api.Header{Typ: str(), Cty: oddStrings[r.IntN(2)]}
		}
		unwrap := api.UnwrapCEKRequest{Key: str(), KID: str(), Alg: str(), EncryptedKey: bin(), Enc: str(), APU: bin(), APV: bin(), IV: bin(), Tag: bin()}
		if r.IntN(8) == 0 {
			unwrap.EPK = &jose.JSONWebKey{Key: []byte("k")}
		}
		all = append(all, q, unwrap,
			api.SignDigestRequest{Key: str(), KID: str(), Alg: str(), Digest: bin()},
			api.DecryptJWERequest{JWE: str(), Key: str()})
	}
	return append(all, api.Reload{}, api.VerifyMACRequest{Key: "k", Message: []byte("m")})
}

// TestEncodeAsReflection holds the bytes of requests against those that package
// json gives, and its errors.
func TestEncodeAsReflection(t *testing.T) {
	buf := []byte("before")
	for _, in := range oddRequests() {
		want, wantErr := byReflection(in)
		got, err := encodeBody(buf, in)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("encodeBody(%+v) = %v, want %v", in, err, wantErr)
		}
		if err == nil && string(got) != "before"+want {
			t.Fatalf("encodeBody(%+v) = %s, want %s", in, got, want)
		}
	}
}

// TestRequestsOnTheWire reads requests as net/http does.
func TestRequestsOnTheWire(t *testing.T) {
	c := newCall(t.Context(), lane{path: api.SignJWT.Path}, time.Time{}, time.Time{})
	for _, in := range []any{api.SignJWTRequest{Key: "k", Claims: json.RawMessage(`{ "a":"<b>" }`)}, api.SignJWTRequest{Key: strings.Repeat("k", 100_000)}, api.Reload{}, nil} {
		if err := c.encode(in); err != nil {
			t.Fatal(err)
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(c.request)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Fatal(err)
		}
		method, want := http.MethodGet, ""
		header := http.Header{}
		if in != nil {
			method = http.MethodPost
			if want, err = byReflection(in); err != nil {
				t.Fatal(err)
			}
			header.Set("Content-Type", "application/json")
		}
		req.Header.Del("Content-Length")
		if req.Method != method || req.RequestURI != api.SignJWT.Path || req.Host != "signetd" || string(body) != want || !cmp.Equal(req.Header, header) {
			t.Errorf("request of %+v: %s %s %s %v %s", in, req.Method, req.RequestURI, req.Host, req.Header, body)
		}
	}
}

// TestDecodeAsReflection holds what answers are decoded to against what package json
// gives, for those of the daemon and for damaged ones.
func TestDecodeAsReflection(t *testing.T) {
	answers := []any{
		api.SignJWTResponse{Token: "a.b.c", KID: "kid"}, api.SignJWTResponse{},
		api.SignDigestResponse{Signature: []byte{1, 2, 3, 4}, KID: "kid"}, api.SignDigestResponse{},
		api.UnwrapCEKResponse{CEK: []byte{9, 8, 7}, KID: "kid"}, api.UnwrapCEKResponse{CEK: []byte{}},
		api.DecryptJWEResponse{Plaintext: []byte("hello"), Header: api.JWEHeader{Alg: "RSA-OAEP", Enc: "A256GCM", KID: "kid", Typ: "JWT", Cty: "JSON"}, KID: "kid"},
		api.DecryptJWEResponse{Header: api.JWEHeader{Alg: "dir", Enc: "A128GCM", Cty: "x"}}, api.DecryptJWEResponse{},
		api.SignJWTResponse{Token: "<ü>\"\\\n", KID: "\u2028"},
	}
	for _, a := range answers {
		text, err := byReflection(a)
		if err != nil {
			t.Fatal(err)
		}
		texts := []string{text, strings.TrimSpace(text), " " + text, text + "x", text + "\n", text[:len(text)-2] + `,"new":1}`, strings.ToUpper(text)}
		for i := range text {
			texts = append(texts, text[:i], text[:i]+text[i+1:], text[:i]+"\\u0041"+text[i:], text[:i]+"-"+text[i:], text[:i]+"\n"+text[i:], text[:i]+"\""+text[i:])
		}
		for _, text := range texts {
			checkDecode[api.SignJWTResponse](t, text)
			checkDecode[api.SignDigestResponse](t, text)
			checkDecode[api.UnwrapCEKResponse](t, text)
			checkDecode[api.DecryptJWEResponse](t, text)
		}
	}
}

func checkDecode[A any](t *testing.T, text string) {
	t.Helper()
	var got, want A
	err, wantErr := (&answer{body: []byte(text)}).decode(&got), json.Unmarshal([]byte(text), &want)
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("decode(%s) = %v, want %v", text, err, wantErr)
	}
	if diff := cmp.Diff(want, got); err == nil && diff != "" {
		t.Fatalf("decode(%s) (-want +got):\n%s", text, diff)
	}
}

// TestPlainFormIsTaken makes sure that the daemon's answers and usual requests do
// not go by reflection.
func TestPlainFormIsTaken(t *testing.T) {
	text, err := byReflection(api.DecryptJWEResponse{Plaintext: []byte("hello"), Header: api.JWEHeader{Alg: "RSA-OAEP", Enc: "A256GCM", KID: "kid"}, KID: "kid"})
	if err != nil {
		t.Fatal(err)
	}
	for text, out := range map[string]any{
		text:                              new(api.DecryptJWEResponse),
		`{"token":"a.b.c","kid":"k"}`:     new(api.SignJWTResponse),
		`{"signature":"AQID","kid":"k"}`:  new(api.SignDigestResponse),
		`{"cek":"AQID","kid":"k"}` + "\n": new(api.UnwrapCEKResponse),
	} {
		if !decodePlain([]byte(text), out) {
			t.Errorf("decodePlain(%s) goes by reflection", text)
		}
	}
	var e encoder
	e.ok = true
	e.signJWT(&api.SignJWTRequest{Key: "k", Claims: json.RawMessage(`{"a":"ü"}`), Header: &api.Header{Typ: "at+jwt"}})
	if !e.ok {
		t.Error("a usual request goes by reflection")
	}
}
