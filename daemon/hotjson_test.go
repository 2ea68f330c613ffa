package daemon

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"signetd/daemon/api"
)

// plainBodies are requests as clients write them: each is read without reflection.
var plainBodies = []struct {
	into any
	body string
}{
	{&api.SignJWTRequest{}, `{"key":"oidc","claims":{"sub":"Zoë","aud":["a","b"],"n":-1.5e+3,"t":[true,false,null,{}],"url":"https:\/\/x\\"}}`},
	{&api.SignJWTRequest{}, " {\n\t\"claims\" : { } , \"key\" : \"oidc\",\"ttl\":900,\"alg\":\"ES256\",\"header\":{\"typ\":\"JWT\",\"cty\":\"\"}}\r\n"},
	{&api.SignJWTRequest{}, `{}`},
	{&api.SignJWTRequest{}, `{"key":"ключ","claims":{"a":{"a":{"a":1}},"b":[[],[0]]},"ttl":0,"header":{}}`},
	{&api.SignJWSRequest{}, `{"key":"notes","payload":"Ynl0ZXM","alg":"ES256","header":{"cty":"x"},"detached":true,"serialization":"compact"}`},
	{&api.SignJWSRequest{}, `{"key":"notes","payload":"","detached":false}`},
	{&api.SignDigestRequest{}, `{"key":"k","kid":"v","alg":"ES256","digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`},
	{&api.DecryptJWERequest{}, `{"jwe":"e30.AA.AA.AA.AA","key":"inbox"}`},
	{&api.UnwrapCEKRequest{}, `{"key":"inbox","kid":"v","alg":"A256GCMKW","encrypted_key":"AA","enc":"A256GCM","apu":"AA","apv":"AQ","iv":"AA","tag":"AA"}`},
}

// oddBodies are left to the general decoder, whether it takes them or not.
var oddBodies = []string{
	``, ` `, `null`, `[]`, `{`, `{}{}`, `{} x`, `{"key":"a",}`, `{,}`, `{"key"}`, `{"key":}`, `{"key":"a" "alg":"b"}`, "{}\x00",
	`{"key":"a","key":"a"}`, `{"key":null}`, `{"key":1}`, `{"key":"\u0061"}`, `{"key":"a\n"}`, "{\"key\":\"\xff\"}", "{\"key\":\"\n\"}", `{"\u006bey":"a"}`,
	`{"Key":"a"}`, `{"other":1}`, `{"batch":[]}`,
	`{"claims":[]}`, `{"claims":null}`, `{"claims":{"a":1,"a":2}}`, `{"claims":{"a":{"b":1,"b":1}}}`, `{"claims":{"a":[{"b":1,"b":1}]}}`, `{"claims":{"a":"\ud800"}}`,
	`{"claims":{"a":"\x"}}`, `{"claims":{"a":01}}`, `{"claims":{"a":1.}}`, `{"claims":{"a":.5}}`, `{"claims":{"a":+1}}`, `{"claims":{"a":1e}}`, `{"claims":{"a":tru}}`,
	`{"claims":{"a":truefalse}}`, `{"claims":{"a":nul`, `{"claims":{"a":[1,]}}`, `{"claims":{"a":[1}}`, `{"claims":{"a":"`, `{"claims":{"a":"\`, `{"claims":{"a":-}}`,
	"{\"claims\":{\"\xc3\":1}}", `{"claims":` + strings.Repeat(`{"a":`, 20) + `1` + strings.Repeat(`}`, 20) + `}`,
	`{"ttl":-1}`, `{"ttl":-0}`, `{"ttl":1.0}`, `{"ttl":1e2}`, `{"ttl":007}`, `{"ttl":9999999999999999999}`, `{"ttl":"1"}`,
	`{"header":null}`, `{"header":{"typ":"a","typ":"a"}}`, `{"header":{"alg":"none"}}`, `{"header":[]}`,
	`{"payload":"AB"}`, `{"payload":"AA=="}`, `{"payload":"A"}`, `{"payload":"+/"}`, `{"detached":1}`, `{"detached":null}`, `{"epk":{}}`,
}

func TestDecodeFast(t *testing.T) {
	for _, tt := range plainBodies {
		if !decodeFast([]byte(tt.body), tt.into) {
			t.Errorf("decodeFast(%s) left it to the general decoder", tt.body)
		}
		checkDecode(t, []byte(tt.body))
	}
	for _, body := range oddBodies {
		var q api.SignJWTRequest
		if decodeFast([]byte(body), &q) || !cmp.Equal(q, api.SignJWTRequest{}) {
			t.Errorf("decodeFast(%s) = true, %+v; want false, and no part of a request", body, q)
		}
		checkDecode(t, []byte(body))
	}
	if decodeFast([]byte(`{}`), &api.VerifyJWTRequest{}) {
		t.Error("decodeFast(a request that it does not know) = true")
	}
}

// TestDecodeFastClaims holds that the claims are no copy, which somebody would have to
// clear, and that nothing can be written behind them.
func TestDecodeFastClaims(t *testing.T) {
	body := []byte(`{"claims":{"sub":"a"},"key":"k"}`)
	var q api.SignJWTRequest
	if !decodeFast(body, &q) || cap(q.Claims) != len(q.Claims) {
		t.Fatalf("decodeFast() = %+v with room for %d more", q, cap(q.Claims)-len(q.Claims))
	}
	clear(body)
	if !bytes.Equal(q.Claims, make([]byte, len(`{"sub":"a"}`))) || q.Key != "k" {
		t.Errorf("after the body is cleared there is %q left", q.Claims)
	}
}

// checkDecode holds the two decoders together: what the fast one takes the general one
// takes, and reads the same.
func checkDecode(t *testing.T, body []byte) {
	t.Helper()
	checkDecodeAs[api.SignJWTRequest](t, body)
	checkDecodeAs[api.SignJWSRequest](t, body)
	checkDecodeAs[api.SignDigestRequest](t, body)
	checkDecodeAs[api.DecryptJWERequest](t, body)
	checkDecodeAs[api.UnwrapCEKRequest](t, body)
}

// decodeGeneral reads a body that holds one request by reflection alone.
func decodeGeneral[Q any](data []byte) (Q, error) {
	var b body[Q]
	err := decode(data, &b)
	if err == nil && b.Batch != nil {
		err = errors.New("a batch")
	}
	return b.One, err
}

func checkDecodeAs[Q any](t *testing.T, body []byte) {
	t.Helper()
	var got Q
	if !decodeFast(body, &got) {
		return
	}
	want, err := decodeGeneral[Q](body)
	if err != nil {
		t.Fatalf("decodeFast took %q, the general decoder says %v", body, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%q is read in two ways (-general +fast):\n%s", body, diff)
	}
}

func FuzzDecodeFast(f *testing.F) {
	for _, tt := range plainBodies {
		f.Add([]byte(tt.body))
	}
	for _, body := range oddBodies {
		f.Add([]byte(body))
	}
	f.Fuzz(checkDecode)
}

func FuzzAppendFast(f *testing.F) {
	f.Add("eyJ.e30.AA", []byte("plaintext"))
	f.Add("", []byte{})
	f.Add("<&>\"\\/\x7f\x00\x1f\b\f\n\r\té\u2028漢\U0001F600", []byte{0xff})
	f.Add("\xff", []byte(nil))
	f.Fuzz(func(t *testing.T, text string, data []byte) {
		for _, answer := range []any{
			&api.SignJWTResponse{Token: text, KID: text}, &api.SignJWTResponse{},
			&api.SignJWSResponse{JWS: text, Protected: text, Signature: text, KID: text}, &api.SignJWSResponse{},
			&api.SignDigestResponse{Signature: data, KID: text}, &api.SignDigestResponse{},
			&api.UnwrapCEKResponse{CEK: data, KID: text}, &api.UnwrapCEKResponse{},
			&api.DecryptJWEResponse{Plaintext: data, Header: api.JWEHeader{Alg: text, Enc: text, KID: text, Typ: text, Cty: text}, KID: text},
			&api.DecryptJWEResponse{Plaintext: data, Header: api.JWEHeader{Alg: text}}, &api.DecryptJWEResponse{},
		} {
			want, err := json.Marshal(answer)
			got, ok := appendFast([]byte("before "), answer)
			if !ok {
				want = nil
			}
			if ok && err != nil || string(got) != "before "+string(want) {
				t.Errorf("appendFast(%+v) =\n%s, %v\nwant what json.Marshal has:\n%s, %v", answer, got, ok, want, err)
			}
			if !ok && plainRun(text) == len(text) {
				t.Errorf("appendFast(%+v) left it to json.Marshal", answer)
			}
		}
	})
}

// TestAppendFastRoom holds that an answer does not outgrow its buffer, which would leave
// a plaintext in the one that was too short.
func TestAppendFastRoom(t *testing.T) {
	text := strings.Repeat("x", 100)
	answer := &api.DecryptJWEResponse{Plaintext: make([]byte, 1000), Header: api.JWEHeader{Alg: text, Enc: text, KID: text, Typ: text, Cty: text}, KID: text}
	room := encoder{}
	room.grow(1000, text, text, text, text, text, text)
	b := make([]byte, 0, cap(room.out))
	got, ok := appendFast(b, answer)
	if !ok || &got[0] != &b[:1][0] {
		t.Error("appendFast() moved to another buffer although it had made room")
	}
}

// TestAppendFastMoves appends an answer to another, in a buffer that is too short.
func TestAppendFastMoves(t *testing.T) {
	first, ok := appendFast(nil, &api.UnwrapCEKResponse{CEK: []byte("secret"), KID: "k"})
	if !ok {
		t.Fatal("appendFast() = false")
	}
	want := string(first) + `{"token":"` + strings.Repeat("x", 1000) + `","kid":"k"}`
	got, ok := appendFast(first, &api.SignJWTResponse{Token: strings.Repeat("x", 1000), KID: "k"})
	if !ok || string(got) != want {
		t.Errorf("appendFast() = %s, %v; want %s", got, ok, want)
	}
	if !bytes.Equal(first, make([]byte, len(first))) {
		t.Errorf("the buffer that was too short still holds %s", first)
	}
}

func TestAppendFastOthers(t *testing.T) {
	if _, ok := appendFast(nil, &api.Keys{}); ok {
		t.Error("appendFast(an answer that it does not know) = true")
	}
}

var usualBody = []byte(`{"key":"oidc","claims":` + string(usualClaims) + `}`)

func BenchmarkDecode(b *testing.B) {
	for name, decode := range map[string]func([]byte, *api.SignJWTRequest) bool{
		"fast": func(body []byte, q *api.SignJWTRequest) bool { return decodeFast(body, q) },
		"general": func(body []byte, _ *api.SignJWTRequest) bool {
			_, _, err := decodeRequests[api.SignJWTRequest](body, 64)
			return err == nil
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var q api.SignJWTRequest
				if !decode(usualBody, &q) {
					b.Fatal("not decoded")
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	answer := &api.SignJWTResponse{Token: strings.Repeat("x", 500), KID: strings.Repeat("k", 43)}
	out := make([]byte, 0, 4096)
	for name, encode := range map[string]func() bool{
		"fast":    func() bool { _, ok := appendFast(out, answer); return ok },
		"general": func() bool { _, err := json.Marshal(answer); return err == nil },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !encode() {
					b.Fatal("not encoded")
				}
			}
		})
	}
}

// TestPlainRun has each byte at each place of a text of two words and a half.
func TestPlainRun(t *testing.T) {
	for at := range 20 {
		for c := range 256 {
			text := []byte("abcdefghijklmnopqrst")
			text[at] = byte(c)
			want := len(text)
			if c < ' ' || c > 0x7f || c == '"' || c == '\\' {
				want = at
			}
			if got := plainRun(text); got != want || plainRun(string(text)) != want {
				t.Errorf("plainRun(%q) = %d, want %d", text, got, want)
			}
		}
	}
}
