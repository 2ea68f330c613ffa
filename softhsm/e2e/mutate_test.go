package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// A mutator makes JWEs that must not open, from some that do. It is not safe for
// concurrent use.
type mutator struct {
	*rand.Rand
	good [][5][]byte // valid ones, in parts
	kids []string    // of other keys, and of no key
}

// mutations are the changes by their names, each with its share of a run. Together they
// cover each part of a JWE. About half of them reach the token: those of the encrypted
// key that keep its length, and those of the parts after it.
var mutations = []struct {
	name   string
	weight int
	mutate func(m *mutator, p [5][]byte) string
}{
	{"alg", 4, func(m *mutator, p [5][]byte) string {
		return m.header(p, "alg", m.one("RSA1_5", "RSA-OAEP", "RSA-OAEP-256", "RSA-OAEP-384", "RSA-OAEP-512", "dir", "none", "A256KW", "ECDH-ES", "HS256", ""))
	}},
	{"enc", 4, func(m *mutator, p [5][]byte) string {
		return m.header(p, "enc", m.one("A128GCM", "A192GCM", "A256GCM", "A128CBC-HS256", "A256CBC-HS512", "A512GCM", "none", ""))
	}},
	{"kid", 4, func(m *mutator, p [5][]byte) string { return m.header(p, "kid", m.one(m.kids...)) }},
	{"header", 8, func(m *mutator, p [5][]byte) string { return join(m.changed(p, 0)) }},
	{"encrypted key", 20, func(m *mutator, p [5][]byte) string {
		p[1] = m.spoil(p[1])
		return join(p)
	}},
	{"random encrypted key", 12, func(m *mutator, p [5][]byte) string {
		p[1] = m.bytes(len(p[1]))
		p[1][0] &= 0x7f // below the modulus
		return join(p)
	}},
	{"key of another JWE", 6, func(m *mutator, p [5][]byte) string {
		for was := p[1]; bytes.Equal(p[1], was); {
			p[1] = m.good[m.IntN(len(m.good))][1]
		}
		return join(p)
	}},
	{"iv", 8, func(m *mutator, p [5][]byte) string { return join(m.changed(p, 2)) }},
	{"ciphertext", 8, func(m *mutator, p [5][]byte) string { return join(m.changed(p, 3)) }},
	{"tag", 8, func(m *mutator, p [5][]byte) string { return join(m.changed(p, 4)) }},
	{"cut short", 8, func(m *mutator, p [5][]byte) string {
		text := join(p)
		return text[:m.IntN(len(text))]
	}},
	{"fewer parts, or more", 4, func(m *mutator, p [5][]byte) string {
		parts := strings.Split(join(p), ".")
		if at := m.IntN(5); m.IntN(2) == 0 {
			parts = slices.Delete(parts, at, at+1)
		} else {
			parts = slices.Insert(parts, at, parts[at])
		}
		return strings.Join(parts, ".")
	}},
	{"two parts in each other's place", 3, func(m *mutator, p [5][]byte) string {
		i := 1 + m.IntN(4)
		p[0], p[i] = p[i], p[0]
		return join(p)
	}},
	{"text", 8, func(m *mutator, p [5][]byte) string {
		text := []byte(join(p))
		at := m.IntN(len(text))
		text[at] = m.other(text[at], "AZaz09-_.=+/ \n\"{}\x00\x7f\xc3")
		return string(text)
	}},
	{"random text", 3, func(m *mutator, _ [5][]byte) string { return string(m.bytes(m.IntN(2000))) }},
	{"JSON", 3, func(m *mutator, p [5][]byte) string {
		parts := strings.Split(join(m.changed(p, 1+m.IntN(4))), ".")
		return fmt.Sprintf(`{"protected":%q,"encrypted_key":%q,"iv":%q,"ciphertext":%q,"tag":%q}`, parts[0], parts[1], parts[2], parts[3], parts[4])
	}},
}

// newMutator seals JWEs for the key inbox, one for each alg of the key and each enc.
func newMutator(t *testing.T, p *process, seed uint64) *mutator {
	t.Helper()
	inbox := p.publicKey("inbox")
	m := &mutator{Rand: rand.New(rand.NewPCG(seed, 0)), kids: []string{p.publicKey("outbox").KeyID, p.publicKey("oidc").KeyID, "nobody", ""}} // #nosec G404 -- a seed to repeat it by
	for _, alg := range []jose.KeyAlgorithm{jose.RSA_OAEP, jose.RSA_OAEP_256} {
		for _, enc := range encs {
			parts := strings.Split(compact(t, seal(t, inbox, alg, enc, m.bytes(10+m.IntN(500)), nil)), ".")
			var good [5][]byte
			for i := range good {
				good[i] = part(t, parts[i])
			}
			m.good = append(m.good, good)
		}
	}

	return m
}

// jwe returns a JWE that must not open, and what is wrong with it.
func (m *mutator) jwe() (jwe, name string) {
	all := 0
	for _, x := range mutations {
		all += x.weight
	}
	at := m.IntN(all)
	for _, x := range mutations {
		if at -= x.weight; at < 0 {
			return x.mutate(m, m.good[m.IntN(len(m.good))]), x.name
		}
	}
	panic("not reached")
}

// encryptedKey returns an encrypted key that must not unwrap.
func (m *mutator) encryptedKey() []byte {
	good := m.good[m.IntN(len(m.good))][1]
	if m.IntN(2) == 0 {
		return m.spoil(good)
	}
	random := m.bytes(len(good))
	random[0] &= 0x7f
	return random
}

func (m *mutator) one(of ...string) string { return of[m.IntN(len(of))] }

func (m *mutator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}

// other returns a byte of set other than b.
func (m *mutator) other(b byte, set string) byte {
	for {
		if c := set[m.IntN(len(set))]; c != b {
			return c
		}
	}
}

// spoil changes a bit of data, its length or all of it. The result always differs.
func (m *mutator) spoil(data []byte) []byte {
	out := bytes.Clone(data)
	switch m.IntN(8) {
	case 0:
		return out[:m.IntN(len(out))]
	case 1:
		return append(out, m.bytes(1+m.IntN(20))...)
	case 2:
		return nil
	case 3:
		return bytes.Repeat([]byte{0xff}, len(out))
	default:
		out[m.IntN(len(out))] ^= 1 << m.IntN(8)
		return out
	}
}

func (m *mutator) changed(p [5][]byte, i int) [5][]byte {
	p[i] = m.spoil(p[i])
	return p
}

// header sets a member of the protected header, or removes it. It adds a space at the
// end, which the tag covers: the JWE would not open even with the old value.
func (m *mutator) header(p [5][]byte, name, value string) string {
	members := map[string]string{}
	_ = json.Unmarshal(p[0], &members) // of go-jose, or of the test
	if members[name] = value; value == "" {
		delete(members, name)
	}
	text, _ := json.Marshal(members)
	p[0] = append(text, ' ')
	return join(p)
}

func join(p [5][]byte) string {
	var parts [5]string
	for i, data := range p {
		parts[i] = base64.RawURLEncoding.EncodeToString(data)
	}
	return strings.Join(parts[:], ".")
}

// A mutator never returns a JWE that it started from, and seldom the same one twice.
func TestMutator(t *testing.T) {
	header := []byte(`{"alg":"RSA-OAEP","enc":"A256GCM","kid":"k"}`)
	m := &mutator{Rand: rand.New(rand.NewPCG(1, 2)), kids: []string{"other", ""}} // #nosec G404 -- the same each time
	was := map[string]bool{}
	for range 2 {
		good := [5][]byte{header, m.bytes(256), m.bytes(12), m.bytes(100), m.bytes(16)}
		m.good = append(m.good, good)
		was[join(good)] = true
	}

	seen, kinds := map[string]bool{}, map[string]int{}
	for range 20000 {
		jwe, name := m.jwe()
		if was[jwe] {
			t.Fatalf("%s: the JWE as it was", name)
		}
		seen[jwe] = true
		kinds[name]++
	}
	if len(seen) < 9000 || len(kinds) != len(mutations) {
		t.Errorf("%d different ones of %d kinds", len(seen), len(kinds))
	}

	if got := string(part(t, strings.Split(m.header(m.good[0], "alg", "x"), ".")[0])); got != `{"alg":"x","enc":"A256GCM","kid":"k"} ` {
		t.Errorf("header with another alg: %s", got)
	}
}
