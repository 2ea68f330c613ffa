//go:build cgo

package interop_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
	"signetd/signer"
)

// examples are those of RFC 7515 appendix A, RFC 7516 appendix A, RFC 7520 sections 4 and 5,
// and RFC 8037 appendix A. Each key has the alg of its message.
type examples struct {
	JWS []example `json:"jws"`
	JWE []example `json:"jwe"`
}

type example struct {
	Name      string            `json:"name"`
	Keys      []map[string]any  `json:"keys"`
	JWS       map[string]string `json:"jws"` // by serialization
	JWE       map[string]string `json:"jwe"`
	Payload   string            `json:"payload"` // base64url, if the JWS is detached
	Plaintext string            `json:"plaintext"`
}

func readExamples(t testing.TB) examples {
	t.Helper()
	data, err := os.ReadFile("testdata/rfc.json")
	if err != nil {
		t.Fatal(err)
	}
	var e examples
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func algOf(jwk map[string]any) signer.Alg {
	alg, _ := jwk["alg"].(string)
	return signer.Alg(alg)
}

// Each published JWE opens with each of its keys alone, in all its serializations. Those
// with PBES2, which signetd does not have, fail with decrypt_failed like all others.
func TestRFCOpen(t *testing.T) {
	rows := [][]string{{"example", "key", "backend", "serializations", "result"}}
	for _, e := range readExamples(t).JWE {
		for i, jwk := range e.Keys {
			for name, make := range makers {
				alg := algOf(jwk)
				k := newKey("k", jwk, alg)
				known := alg.Use() == signer.UseEnc
				if !known { // a key of another recipient
					k = newKey("k", map[string]any{"kty": "oct", "k": "GawgguFyGrWKav7AX4VKUg"}, signer.A128KW)
				}

				row := []string{e.Name, fmt.Sprintf("%d %s", i+1, alg), name}
				t.Run(e.Name+" key "+string(alg)+" in "+name, func(t *testing.T) {
					d := make(t, k)
					forms := slices.Sorted(maps.Keys(e.JWE))
					for _, form := range forms {
						got, err := d.open(t, e.JWE[form])
						switch {
						case known && (err != nil || got != e.Plaintext):
							t.Errorf("%s: opened as %.40q, %v; want %.40q", form, got, err, e.Plaintext)
						case !known && (err == nil || !strings.Contains(err.Error(), "decrypt_failed")):
							t.Errorf("%s: %v, want decrypt_failed", form, err)
						}
					}
					result := "opened"
					if !known {
						result = "refused"
					}
					rows = append(rows, append(row, strings.Join(forms, " "), result))
				})
			}
		}
	}

	table(t, "the JWEs of the RFCs", rows)
}

// RFC 7518 appendix C: the key that Bob derives from Alice's ephemeral key.
func TestRFCAgreement(t *testing.T) {
	var alice jose.JSONWebKey
	must(t, "epk", alice.UnmarshalJSON([]byte(`{"kty":"EC","crv":"P-256",
		"x":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0","y":"SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps"}`)))
	bob := newKey("bob", map[string]any{
		"kty": "EC", "crv": "P-256", "x": "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
		"y": "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck", "d": "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw",
	}, signer.ECDHES)
	for backend, make := range makers {
		d := make(t, bob)
		a, err := ask[api.UnwrapCEKResponse](t, d, api.UnwrapCEK.Path, api.UnwrapCEKRequest{
			Key: bob.name, Alg: "ECDH-ES", Enc: "A128GCM", EPK: &alice, APU: []byte("Alice"), APV: []byte("Bob"),
		})
		if want := "VqqN6vgjbSBcIijNcacQGg"; err != nil || b64(a.CEK) != want {
			t.Errorf("%s: derived %s, %v; want %s", backend, b64(a.CEK), err, want)
		}
	}
}
