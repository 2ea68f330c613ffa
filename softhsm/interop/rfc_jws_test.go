//go:build cgo

package interop_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"signetd/daemon/api"
	"signetd/signer"
)

// A signature is one signature of a JWS in any serialization.
type signature struct {
	protected, payload, signature string // in base64url
}

// signatures returns the signatures of a JWS. payload is that of a detached JWS.
func signatures(t testing.TB, jws, detached string) (list []signature) {
	t.Helper()
	if !strings.HasPrefix(jws, "{") {
		parts := strings.Split(jws, ".")
		return []signature{{parts[0], parts[1] + detached, parts[2]}}
	}
	type one struct{ Protected, Signature string }

	var j struct {
		one
		Payload    string
		Signatures []one
	}
	must(t, "JWS", json.Unmarshal([]byte(jws), &j))

	if j.Signatures == nil {
		j.Signatures = []one{j.one}
	}
	for _, s := range j.Signatures {
		list = append(list, signature{s.Protected, j.Payload + detached, s.Signature})
	}
	return list
}

// namesAlg reports whether the protected header has the alg, which the daemon requires.
func (s signature) namesAlg(t testing.TB) bool {
	t.Helper()
	head, err := b64decode(s.protected)
	must(t, "protected header", err)
	return bytes.Contains(head, []byte(`"alg"`))
}

// sign signs again with the daemon, if the algorithm is deterministic.
func (s signature) sign(t testing.TB, d *daemon, k key) (sig []byte, deterministic bool) {
	t.Helper()
	input := []byte(s.protected + "." + s.payload)
	switch alg := k.algs[0]; alg.Family() { //nolint:exhaustive // all others sign with a random number
	case signer.FamilyHMAC:
		a, err := ask[api.SignMACResponse](t, d, api.SignMAC.Path, api.SignMACRequest{Key: k.name, Message: input})
		must(t, "mac/sign", err)
		return a.MAC, true
	case signer.FamilyPKCS1v15, signer.FamilyEdDSA:
		if h := alg.Hash(); h != 0 {
			hash := h.New()
			hash.Write(input)
			input = hash.Sum(nil)
		}
		a, err := ask[api.SignDigestResponse](t, d, api.SignDigest.Path, api.SignDigestRequest{Key: k.name, Alg: string(alg), Digest: input})
		must(t, "digest/sign", err)
		return a.Signature, true
	default:
		return nil, false
	}
}

// Each published JWS verifies with each of its keys alone, in all its serializations,
// except a signature whose alg is not protected, which the daemon ignores. With a
// deterministic algorithm the daemon makes the same signature, byte for byte.
func TestRFCVerify(t *testing.T) {
	rows := [][]string{{"example", "key", "backend", "serializations", "verified", "made again"}}
	for _, e := range readExamples(t).JWS {
		for i, jwk := range e.Keys {
			for backend, make := range makers {
				k := newKey("k", jwk, algOf(jwk))
				t.Run(e.Name+" key "+string(k.algs[0])+" in "+backend, func(t *testing.T) {
					d := make(t, k)
					forms := slices.Sorted(maps.Keys(e.JWS))
					verified, again := "yes", "-"
					for _, form := range forms {
						s := signatures(t, e.JWS[form], e.Payload)[i]
						detached, err := b64decode(e.Payload)
						must(t, "payload", err)
						got, err := d.verify(t, k, e.JWS[form], detached)
						want, _ := b64decode(s.payload)
						switch {
						case !s.namesAlg(t):
							verified = "refused: its alg is not protected"
							if err == nil {
								t.Errorf("%s: verified, though its alg is not protected", form)
							}
						case err != nil || got != string(want):
							t.Errorf("%s: verified as %q, %v; want %q", form, got, err, want)
						}

						if sig, deterministic := s.sign(t, d, k); deterministic {
							again = "the same"
							if b64(sig) != s.signature {
								t.Errorf("%s: signature %s, want %s", form, b64(sig), s.signature)
							}
						}
					}

					rows = append(rows, []string{e.Name, strconv.Itoa(i+1) + " " + string(k.algs[0]), backend, strings.Join(forms, " "), verified, again})
				})
			}
		}
	}

	table(t, "the JWSs of the RFCs", rows)
}
