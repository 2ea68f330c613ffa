//go:build cgo

package interop_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"signetd/daemon/api"
	"signetd/signer"
)

// inToken serves keys from SoftHSM2, or from software if the token cannot hold them. If
// neither takes a key, so that no daemon would start with it, the error is errKey.
func inToken(t *testing.T, keys ...key) (d *daemon, backend string, err error) {
	t.Helper()
	for _, k := range keys {
		if err := k.check(t); err != nil {
			return nil, "software", err
		}
	}
	return serveToken(t, keys...), "softhsm2", nil
}

// check runs `signetd check` with one key.
func (k key) check(t testing.TB) error {
	t.Helper()
	if k.algs[0].Use() == "" {
		return fmt.Errorf("%w: %s is no algorithm of signetd", errKey, k.algs[0])
	}
	if err := checkConfig(t, k); err != nil {
		return fmt.Errorf("%w: %w", errKey, err)
	}
	return nil
}

// runJOSE runs a group of JWSs or JWEs with the key of the group, or with the keys of its
// set. In the config each key has the use and the algorithm of its JWK.
func runJOSE(t *testing.T, s *score, g group) {
	jwks := []map[string]any{g.Private}
	if set, ok := g.Private["keys"].([]any); ok {
		jwks = nil
		for _, k := range set {
			jwk, _ := k.(map[string]any)
			jwks = append(jwks, jwk)
		}
	}

	var keys []key
	for i, jwk := range jwks {
		if reason := notOurs(jwk); reason != "" {
			s.skip(len(g.Tests), reason)
			return
		}
		k := newKey(fmt.Sprintf("k%d", i), jwk, algOf(jwk))
		keys = append(keys, k)
	}

	d, backend, err := serveSet(t, keys)
	for _, v := range g.Tests {
		if reason := beyond(v, g.Tests, jwks); reason != "" {
			s.skip(1, reason)
			continue
		}
		got, want := "", ""
		verr := err
		switch {
		case err != nil:
		case v.JWE != nil:
			if v.PT != nil {
				want = string(unhex(t, *v.PT))
			}
			got, verr = d.open(t, text(v.JWE))
		default: // the payload is in the JWS
			got, verr = d.verify(t, keys[0], text(v.JWS), nil)
			if verr != nil && len(keys) > 1 {
				got, verr = d.verify(t, keys[1], text(v.JWS), nil)
			}
			want = got
		}

		s.judge(t, backend, v, got, want, verr)
	}
}

// serveSet serves a set of keys, unless the daemon refuses the set.
func serveSet(t *testing.T, keys []key) (*daemon, string, error) {
	t.Helper()
	if len(keys) > 1 {
		if err := checkConfig(t, keys...); err != nil {
			return nil, "software", fmt.Errorf("%w: %w", errKey, err)
		}
	}
	return inToken(t, keys...)
}

// notOurs returns the reason why a daemon can have no such key, or nothing.
func notOurs(jwk map[string]any) string {
	alg, _ := jwk["alg"].(string)
	_, private := jwk["d"]
	_, secret := jwk["k"]
	switch {
	case !private && !secret:
		return "a public key alone, which no daemon holds"
	case alg == "":
		return "the JWK names no alg; the config of a key must"
	case alg == "ES521":
		return "ES521 is no algorithm: the JWK means ES512"
	case strings.HasPrefix(alg, "PBES2-"):
		return "PBES2, which signetd does not have"
	case jwk["crv"] == "X25519" || jwk["crv"] == "X448" || jwk["crv"] == "Ed448":
		return "a curve that signetd does not have"
	}

	return ""
}

// beyond returns the reason why the daemon cannot decide a vector as Wycheproof does, or
// nothing: it refuses some valid vectors by design, does not look for one fault of a key,
// and some files have the same vector as valid and as invalid.
func beyond(v vector, all []vector, jwks []map[string]any) string {
	alg, head := algOf(jwks[0]), headOf(v)
	if v.Result == "invalid" {
		if v.Comment == "rejectsKeyWithRocaVulnerability" {
			return "keys with the ROCA fault are not looked for"
		}
		for _, other := range all {
			if other.Result == "valid" && text(other.JWS)+text(other.JWE) == text(v.JWS)+text(v.JWE) {
				return fmt.Sprintf("the same text as vector %d, which is valid", other.ID)
			}
		}
		return ""
	}

	switch {
	case head == "":
		return "not base64url (RFC 7515 section 2), though called valid"
	case len(jwks) == 1 && isCompact(v) && !strings.Contains(head, `"`+string(alg)+`"`):
		return "another alg than that of the JWK, to which a key is pinned"
	case alg == signer.Dir && strings.Contains(head, "CBC"):
		return "dir with CBC, for which no token could use the key"
	case alg.Family() == signer.FamilyECDH && (strings.Contains(head, "X25519") || strings.Contains(head, "X448")):
		return "a curve that signetd does not have"
	}
	return ""
}

func isCompact(v vector) bool { return !strings.HasPrefix(text(v.JWS)+text(v.JWE), "{") }

// headOf returns the protected header of a compact object, and an object in JSON as it is.
// It returns nothing if a part is not base64url.
func headOf(v vector) string {
	object := text(v.JWS) + text(v.JWE)
	if !isCompact(v) {
		return object
	}
	var head string
	for i, part := range strings.Split(object, ".") {
		data, err := b64decode(part)
		if err != nil {
			return ""
		}
		if i == 0 {
			head = string(data)
		}
	}

	return head
}

// oaepAlgs are the algorithms of JOSE by the hashes of RSA-OAEP.
var oaepAlgs = map[string]signer.Alg{
	"SHA-1": signer.RSAOAEP, "SHA-256": signer.RSAOAEP256, "SHA-384": signer.RSAOAEP384, "SHA-512": signer.RSAOAEP512,
}

// runOAEP unwraps the ciphertexts with the daemon, as content keys.
func runOAEP(t *testing.T, s *score, g group) {
	alg, ok := oaepAlgs[g.SHA]
	switch {
	case !ok || g.SHA != g.MGFSHA:
		s.skip(len(g.Tests), "RSA-OAEP with "+g.SHA+" and MGF1 with "+g.MGFSHA+", which JOSE does not have")
		return
	case g.KeySize < signer.MinRSABits:
		s.skip(len(g.Tests), "RSA keys below 2048 bits, which are refused (RFC 7518 section 4.3)")
		return
	case g.PrivateJWK == nil:
		private, err := x509.ParsePKCS8PrivateKey(unhex(t, g.PKCS8))
		must(t, "privateKeyPkcs8", err)
		g.PrivateJWK = jwkOf(t, private)
	}

	k := newKey("k", g.PrivateJWK, alg)
	d, backend, err := inToken(t, k)
	must(t, "key", err)
	for _, v := range g.Tests {
		if v.Label != "" {
			s.skip(1, "RSA-OAEP with a label, which is empty in JOSE (RFC 7518 section 4.3)")
			continue
		}
		a, err := ask[api.UnwrapKeyResponse](t, d, api.UnwrapKey.Path, api.UnwrapKeyRequest{Key: k.name, EncryptedKey: unhex(t, v.CT)})
		s.judge(t, backend, v, string(a.PlainKey), string(unhex(t, v.Msg)), err)
	}
}

// runKeyWrap unwraps with the daemon, and also wraps the valid vectors: AES key wrap is
// deterministic, so each direction has one right answer.
func runKeyWrap(form string) func(*testing.T, *score, group) {
	return func(t *testing.T, s *score, g group) {
		alg := signer.Alg(fmt.Sprintf("A%dKW", g.KeySize))
		if alg.Use() == "" {
			s.skip(len(g.Tests), string(alg)+", which JOSE does not have")
			return
		}
		names, keys := map[string]string{}, []key{}
		for _, v := range g.Tests {
			if _, ok := names[v.Key]; !ok {
				k := newKey(fmt.Sprintf("k%d", len(keys)), map[string]any{"kty": "oct", "k": b64(unhex(t, v.Key))}, alg)
				names[v.Key], keys = k.name, append(keys, k)
			}
		}

		d, backend, err := inToken(t, keys...)
		must(t, "keys", err)
		for _, v := range g.Tests {
			name, msg, ct := names[v.Key], unhex(t, v.Msg), unhex(t, v.CT)
			a, err := ask[api.UnwrapKeyResponse](t, d, api.UnwrapKey.Path, api.UnwrapKeyRequest{Key: name, Form: form, EncryptedKey: ct})
			s.judge(t, backend, v, string(a.PlainKey), string(msg), err)
			if v.Result != "valid" {
				continue
			}
			w, err := ask[api.WrapKeyResponse](t, d, api.WrapKey.Path, api.WrapKeyRequest{Key: name, Form: form, PlainKey: msg})
			if err != nil || string(w.EncryptedKey) != string(ct) {
				t.Errorf("%d %s over %s: wrapped as %x, %v; want %x", v.ID, v.Comment, backend, w.EncryptedKey, err, ct)
			}
		}
	}
}
