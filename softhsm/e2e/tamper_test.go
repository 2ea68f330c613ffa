package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
)

// Whatever is wrong with a JWE, the answer has the same bytes but for the request id, so
// that an attacker who sends many learns nothing (RFC 7516 section 11.5).
func TestE2ETamperedJWE(t *testing.T) {
	p := start(t, newSettings(t))
	bad := spoil(t, p)
	var want answer
	for _, key := range []string{"", "inbox"} {
		for name, jwe := range bad {
			a := p.do(http.MethodPost, api.DecryptJWE.Path, api.DecryptJWERequest{JWE: jwe, Key: key})
			if want.body == nil {
				a.wantError(t, http.StatusUnprocessableEntity, "decrypt_failed")
				want = a
			}
			if a.status != want.status || a.withoutID() != want.withoutID() || len(a.header) != len(want.header) {
				t.Errorf("%s: %d %s\nwant %d %s", name, a.status, a.body, want.status, want.body)
			}
		}
	}

	for name, encryptedKey := range spoilKey(t, p) {
		a := p.do(http.MethodPost, api.UnwrapCEK.Path, api.UnwrapCEKRequest{Key: "inbox", Alg: "RSA-OAEP-256", EncryptedKey: encryptedKey})
		if a.status != want.status || a.withoutID() != want.withoutID() {
			t.Errorf("unwrap, %s: %d %s\nwant %d %s", name, a.status, a.body, want.status, want.body)
		}
	}

	failed := map[string]int{}
	for _, r := range p.records(t) {
		if r.Outcome == "decrypt_failed" {
			failed[r.Op]++
			if r.Reason != "decryption failed" || r.Object == "" {
				t.Errorf("record %+v: want the one reason, and the hash of what came", r)
			}
		}
	}
	if failed["decrypt"] != 2*len(bad) || failed["unwrap"] != len(spoilKey(t, p)) {
		t.Errorf("records of failures %v, want one for each of %d and %d requests", failed, 2*len(bad), len(spoilKey(t, p)))
	}

	good := compact(t, seal(t, p.publicKey("inbox"), jose.RSA_OAEP_256, jose.A256GCM, []byte("still works"), nil))
	if got := post[api.DecryptJWEResponse](p, api.DecryptJWE.Path, api.DecryptJWERequest{JWE: good}); string(got.Plaintext) != "still works" {
		t.Errorf("plaintext %q", got.Plaintext)
	}
}

// spoil returns JWEs that must not open, each under the name of its fault.
func spoil(t *testing.T, p *process) map[string]string {
	t.Helper()
	inbox, outbox := p.publicKey("inbox"), p.publicKey("outbox")
	bad := map[string]string{
		"nothing": "", "dots": "....", "garbage": "\x00\xff{", "no JWE but a JWS": p.sign("oidc", "").Token,
		"an empty object": "{}", "JSON that is no JWE": `{"protected":7}`,
	}
	for _, enc := range []jose.ContentEncryption{jose.A256GCM, jose.A128CBC_HS256} {
		good := compact(t, seal(t, inbox, jose.RSA_OAEP_256, enc, []byte("attack at dawn"), nil))
		parts := strings.Split(good, ".")
		for i, name := range []string{"header", "encrypted key", "iv", "ciphertext", "tag"} {
			name = string(enc) + ": " + name
			data := part(t, parts[i])
			for where, at := range map[string]int{"first": 0, "middle": len(data) / 2, "last": len(data) - 1} {
				flipped := bytes.Clone(data)
				flipped[at] ^= 1
				bad[name+" with a flipped bit in the "+where+" byte"] = with(parts, i, flipped)
			}
			bad[name+" cut short"] = with(parts, i, data[:len(data)-1])
			bad[name+" longer"] = with(parts, i, append(bytes.Clone(data), 0))
			bad[name+" empty"] = with(parts, i, nil)
			bad[name+" absent"] = strings.Join(append(append([]string{}, parts[:i]...), parts[i+1:]...), ".")
			bad[name+" with padding"] = strings.Replace(good, parts[i], parts[i]+"=", 1)
			bad[name+" with a line break"] = strings.Replace(good, parts[i], parts[i]+"\n", 1)
			if len(data)%3 != 0 {
				bad[name+" with a spare bit set"] = strings.Replace(good, parts[i], setSpareBit(parts[i]), 1)
			}
		}

		bad[string(enc)+": key of another"] = with(parts, 1, part(t, strings.Split(compact(t, seal(t, inbox, jose.RSA_OAEP_256, enc, []byte("x"), nil)), ".")[1]))
		bad[string(enc)+": all zero key"] = with(parts, 1, make([]byte, 256))
		bad[string(enc)+": key above the modulus"] = with(parts, 1, bytes.Repeat([]byte{0xff}, 256))
	}

	good := strings.Split(compact(t, seal(t, inbox, jose.RSA_OAEP_256, jose.A256GCM, []byte("attack at dawn"), nil)), ".")
	for name, header := range map[string]string{
		"RSA1_5": `"alg":"RSA1_5","enc":"A256GCM"`, "dir": `"alg":"dir","enc":"A256GCM"`, "none": `"alg":"none","enc":"A256GCM"`,
		"another alg": `"alg":"RSA-OAEP","enc":"A256GCM"`, "RSA-OAEP-512": `"alg":"RSA-OAEP-512","enc":"A256GCM"`, "no alg": `"enc":"A256GCM"`,
		"A256KW": `"alg":"A256KW","enc":"A256GCM"`, "ECDH-ES": `"alg":"ECDH-ES","enc":"A256GCM","epk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`,
		"PBES2":  `"alg":"PBES2-HS256+A128KW","enc":"A256GCM","p2c":2147483647,"p2s":"AAAA"`,
		"no enc": `"alg":"RSA-OAEP-256"`, "an enc of nobody": `"alg":"RSA-OAEP-256","enc":"A512GCM"`, "an enc of another size": `"alg":"RSA-OAEP-256","enc":"A128GCM"`,
		"crit": `"alg":"RSA-OAEP-256","enc":"A256GCM","crit":["x"],"x":1`, "zip": `"alg":"RSA-OAEP-256","enc":"A256GCM","zip":"DEF"`,
		"a zip of nobody": `"alg":"RSA-OAEP-256","enc":"A256GCM","zip":"BR"`, "alg twice": `"alg":"RSA-OAEP-256","alg":"RSA-OAEP-256","enc":"A256GCM"`,
		"an alg that is a number": `"alg":1,"enc":"A256GCM"`, "a kid that is a number": `"alg":"RSA-OAEP-256","enc":"A256GCM","kid":1`,
	} {
		kid, err := json.Marshal(inbox.KeyID)
		if err != nil {
			t.Fatal(err)
		}
		text := "{" + header + "}"
		if !strings.Contains(header, `"kid"`) {
			text = fmt.Sprintf(`{%s,"kid":%s}`, header, kid)
		}
		bad["a header with "+name] = with(good, 0, []byte(text))
	}

	for name, kid := range map[string]string{"an unknown kid": "nobody", "the kid of a key that signs": p.publicKey("oidc").KeyID, "the kid of another key": outbox.KeyID, "a kid that is huge": strings.Repeat("k", 100000)} {
		public := inbox
		public.KeyID = kid
		bad[name] = compact(t, seal(t, public, jose.RSA_OAEP_256, jose.A256GCM, []byte("attack at dawn"), nil))
	}
	stranger := outbox
	stranger.KeyID = inbox.KeyID
	bad["sealed for another key"] = compact(t, seal(t, stranger, jose.RSA_OAEP_256, jose.A256GCM, []byte("attack at dawn"), nil))
	bad["a bomb"] = compact(t, seal(t, inbox, jose.RSA_OAEP_256, jose.A256GCM, make([]byte, 64<<20), &jose.EncrypterOptions{Compression: jose.DEFLATE}))
	other := inbox
	other.KeyID = outbox.KeyID

	bad["two recipients with each other's kid"] = twoRecipients(t, stranger, other, "attack at dawn")
	return bad
}

func with(parts []string, i int, data []byte) string {
	changed := append([]string{}, parts...)
	changed[i] = base64.RawURLEncoding.EncodeToString(data)
	return strings.Join(changed, ".")
}

// setSpareBit sets a bit of the last base64url character that belongs to no byte.
func setSpareBit(part string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(part) - 1
	return part[:last] + string(alphabet[strings.IndexByte(alphabet, part[last])|1])
}

// spoilKey returns encrypted keys that must not unwrap.
func spoilKey(t *testing.T, p *process) map[string][]byte {
	t.Helper()
	good := part(t, strings.Split(compact(t, seal(t, p.publicKey("inbox"), jose.RSA_OAEP_256, jose.A256GCM, []byte("x"), nil)), ".")[1])
	flipped := bytes.Clone(good)
	flipped[100] ^= 1
	sha1 := part(t, strings.Split(compact(t, seal(t, p.publicKey("inbox"), jose.RSA_OAEP, jose.A256GCM, []byte("x"), nil)), ".")[1])
	other := part(t, strings.Split(compact(t, seal(t, p.publicKey("outbox"), jose.RSA_OAEP_256, jose.A256GCM, []byte("x"), nil)), ".")[1])
	return map[string][]byte{
		"empty": {}, "one byte": {1}, "cut short": good[:255], "longer": append(bytes.Clone(good), 0), "with a zero in front": append([]byte{0}, good...),
		"zero": make([]byte, 256), "one": append(make([]byte, 255), 1), "above the modulus": bytes.Repeat([]byte{0xff}, 256),
		"flipped": flipped, "of another hash": sha1, "for another key": other, "huge": make([]byte, 100000),
	}
}

// A peer that may decrypt with one key learns nothing about another.
func TestE2EDecryptOtherKey(t *testing.T) {
	s := newSettings(t)
	s.grants = allGrants
	p := start(t, s)
	inbox := p.publicKey("inbox")
	sealed := compact(t, seal(t, inbox, jose.RSA_OAEP_256, jose.A256GCM, []byte("x"), nil))
	p.stop()

	s.grants = "\n  - {peer: {user: $uid}, ops: [decrypt, unwrap], keys: [outbox]}"
	p = start(t, s)
	nobodys := inbox
	nobodys.KeyID = "nobody"
	unknown := compact(t, seal(t, nobodys, jose.RSA_OAEP_256, jose.A256GCM, []byte("x"), nil))
	a := p.do(http.MethodPost, api.DecryptJWE.Path, api.DecryptJWERequest{JWE: sealed})
	b := p.do(http.MethodPost, api.DecryptJWE.Path, api.DecryptJWERequest{JWE: unknown})
	a.wantError(t, http.StatusUnprocessableEntity, "decrypt_failed")
	if a.withoutID() != b.withoutID() {
		t.Errorf("%s\nand %s", a.body, b.body)
	}
}
