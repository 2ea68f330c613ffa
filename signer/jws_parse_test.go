package signer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"signetd/signer"
)

// TestParseJWS verifies each form, attached and detached.
func TestParseJWS(t *testing.T) {
	v := version(t, "generate:ec-p256", signer.ES256)
	jws, err := v.SignJWS(t.Context(), "", signer.Header{Typ: "x", Cty: "y"}, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}

	for form, detached := range map[string]string{
		jws.Compact(): "", jws.Flattened(): "", jws.General(): "",
		jws.Detached(): "payload", jws.FlattenedDetached(): "payload", jws.GeneralDetached(): "payload",
	} {
		tokens, err := signer.ParseJWS(form, []byte(detached))
		if err != nil || len(tokens) != 1 || tokens[0].Typ != "x" || tokens[0].Cty != "y" || tokens[0].KID != v.KID() {
			t.Fatalf("ParseJWS(%s) = %+v, %v", form, tokens, err)
		}
		if got, err := v.VerifyJWS(t.Context(), tokens[0]); err != nil || string(got) != "payload" {
			t.Errorf("VerifyJWS(%s) = %q, %v", form, got, err)
		}
		if got, err := tokens[0].VerifyWith(v.Public(), []signer.Alg{signer.ES256}); err != nil || string(got) != "payload" {
			t.Errorf("VerifyWith(%s) = %q, %v", form, got, err)
		}
		if got, err := tokens[0].VerifyWith(v.Public(), []signer.Alg{signer.ES384}); !errors.Is(err, signer.ErrInvalid) || got != nil {
			t.Errorf("VerifyWith(%s) with another alg = %q, %v; want ErrInvalid", form, got, err)
		}
		other := "other"
		if detached == "" {
			other = ""
			form = strings.Replace(form, jws.Payload(), encode([]byte("other")), 1)
		}
		tokens, err = signer.ParseJWS(form, []byte(other))
		if err != nil {
			t.Fatalf("ParseJWS(%s) = %v", form, err)
		}
		if got, err := v.VerifyJWS(t.Context(), tokens[0]); !errors.Is(err, signer.ErrInvalid) || got != nil {
			t.Errorf("VerifyJWS(%s) of another payload = %q, %v; want ErrInvalid", form, got, err)
		}
	}
}

// TestParseJWSFromGoJOSE reads a JWS with two signatures.
func TestParseJWSFromGoJOSE(t *testing.T) {
	one, two := version(t, "generate:ec-p256", signer.ES256), version(t, "generate:rsa-2048", signer.PS256)
	var keys []jose.SigningKey
	for _, v := range []*signer.Version{one, two} {
		s, err := signer.OpaqueSigner(open(t, refOf(v)).(signer.Signer), "", v.Algs()[0])
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, jose.SigningKey{Algorithm: jose.SignatureAlgorithm(v.Algs()[0]), Key: s})
	}

	s, err := jose.NewMultiSigner(keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := s.Sign([]byte("twice"))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := signer.ParseJWS(obj.FullSerialize(), nil)
	if err != nil || len(tokens) != 2 || tokens[0].Alg != signer.ES256 || tokens[1].Alg != signer.PS256 {
		t.Fatalf("ParseJWS() = %+v, %v", tokens, err)
	}
}

// refOf is the ref of a key of the type that v has. open makes a backend of its
// own, and so another key.
func refOf(v *signer.Version) string {
	if v.Algs()[0] == signer.ES256 {
		return "generate:ec-p256"
	}
	return "generate:rsa-2048"
}

func TestParseJWSRefuses(t *testing.T) {
	const canary = "c2VjcmV0LXNlY3JldA" // base64url of secret-secret
	head := func(h string) string { return encode([]byte(h)) }
	good := head(`{"alg":"ES256"}`)
	tests := map[string]struct{ jws, payload, want string }{
		"nothing":               {"", "", "is not a JWS"},
		"two parts":             {good + "." + canary, "", "is not a JWS"},
		"no signatures":         {`{"payload":"` + canary + `"}`, "", "is not a JWS"},
		"an empty list":         {`{"payload":"` + canary + `","signatures":[]}`, "", "is not a JWS"},
		"two forms at once":     {fmt.Sprintf(`{"payload":"","signature":"AA","signatures":[{"protected":%q,"signature":"AA"}]}`, good), "", "is not a JWS"},
		"a member twice":        {fmt.Sprintf(`{"payload":"","payload":%q,"protected":%q,"signature":"AA"}`, canary, good), "", "is not a JWS"},
		"payload twice":         {good + "." + canary + ".AA", "x", "payload"},
		"padding":               {good + ".c2VjcmV0LQ==.AA", "", "base64url"},
		"spare bits":            {good + ".AA.AB", "", "base64url"},
		"a line break":          {good + ".AA\n.AA", "", "base64url"},
		"none":                  {head(`{"alg":"none"}`) + ".AA.", "", "alg"},
		"no alg":                {head(`{}`) + ".AA.AA", "", "alg"},
		"an alg of encryption":  {head(`{"alg":"dir"}`) + ".AA.AA", "", "alg"},
		"alg not protected":     {fmt.Sprintf(`{"payload":"","protected":%q,"header":{"alg":"ES256"},"signature":"AA"}`, head(`{"kid":"k"}`)), "", "alg"},
		"no protected header":   {`{"payload":"","header":{"alg":"ES256"},"signature":"AA"}`, "", "protected"},
		"a header member twice": {fmt.Sprintf(`{"payload":"","protected":%q,"header":{"alg":"ES256"},"signature":"AA"}`, good), "", "twice"},
		"the same, in one":      {head(`{"alg":"ES256","alg":"ES256"}`) + ".AA.AA", "", "protected"},
		"kid a number":          {head(`{"alg":"ES256","kid":1}`) + ".AA.AA", "", "type"},
		"crit":                  {head(`{"alg":"ES256","crit":["exp"],"exp":1}`) + ".AA.AA", "", `"crit"`},
		"b64":                   {head(`{"alg":"ES256","b64":false}`) + ".AA.AA", "", `"b64"`},
		"b64, not protected":    {fmt.Sprintf(`{"payload":"","protected":%q,"header":{"b64":true},"signature":"AA"}`, good), "", `"b64"`},
	}

	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := signer.ParseJWS(tt.jws, []byte(tt.payload))
			if !errors.Is(err, signer.ErrInvalid) || got != nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "ecret") {
				t.Errorf("ParseJWS() = %v, %v; want ErrInvalid that names %s", got, err, tt.want)
			}
		})
	}

	one := fmt.Sprintf(`{"protected":%q,"signature":"AA"}`, good)
	if _, err := signer.ParseJWS(`{"payload":"","signatures":[`+strings.Repeat(one+",", 16)+one+`]}`, nil); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("ParseJWS() of 17 signatures = %v, want ErrInvalid", err)
	}
}

// FuzzParseJWS holds the parser against go-jose's: what we read, go-jose reads, and
// both see the same payload and algorithms.
func FuzzParseJWS(f *testing.F) {
	good := encode([]byte(`{"alg":"ES256","kid":"k"}`))
	for _, s := range []string{
		good + ".AAAA.AAAA", good + "..AAAA", `{"payload":"AAAA","protected":"` + good + `","signature":"AAAA"}`,
		`{"payload":"AAAA","signatures":[{"protected":"` + good + `","header":{"x":1},"signature":"AAAA"}]}`,
		encode([]byte(`{"alg":"ES256","crit":["b64"],"b64":false}`)) + ".AAAA.AAAA",
	} {
		f.Add(s)
	}

	all := []jose.SignatureAlgorithm{"ES256", "ES384", "ES512", "ES256K", "EdDSA", "Ed25519", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := signer.ParseJWS(text, nil)
		if err != nil {
			if !errors.Is(err, signer.ErrInvalid) {
				t.Fatalf("ParseJWS(%q) = %v, want ErrInvalid", text, err)
			}
			return
		}
		parse := jose.ParseSignedCompact
		if strings.HasPrefix(strings.TrimSpace(text), "{") {
			parse = jose.ParseSignedJSON
		}
		theirs, err := parse(text, all)
		if err != nil {
			return // go-jose reads more members than we do, and is strict about those
		}
		if len(theirs.Signatures) != len(tokens) {
			t.Fatalf("%q: %d signatures, go-jose has %d", text, len(tokens), len(theirs.Signatures))
		}
		for i, s := range theirs.Signatures {
			if string(tokens[i].Alg) != s.Header.Algorithm || tokens[i].KID != s.Header.KeyID {
				t.Fatalf("%q: signature %d is %s by %q, for go-jose %s by %q", text, i, tokens[i].Alg, tokens[i].KID, s.Header.Algorithm, s.Header.KeyID)
			}
		}
	})
}
