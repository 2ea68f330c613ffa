//go:build cgo

package e2e

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/backends/software"
	"signetd/daemon/api"
	"signetd/signer"
	"signetd/softhsm"
)

// The kinds of JWE that an attacker must not be able to tell apart. From the bit whether
// the padding of an encrypted key is right, a few thousand answers decrypt the key
// (Manger, CRYPTO 2001).
const (
	wrongTag     = iota // the key unwraps, and the content does not open
	wrongPadding        // the key does not unwrap
	wrongLength         // the key unwraps to a content key of another length
	unknownKID          // no key has the kid: no secret, and the answer needs no token
)

// A sealer makes JWEs of these kinds. They differ in the encrypted key only. They have a
// long content, as an attacker would send: a daemon that decrypts the content only if
// the key unwraps would answer later by that time.
type sealer struct {
	pub     *rsa.PublicKey
	alg     signer.Alg
	headers map[bool]string // with the kid of a key, and with that of none
	rest    string          // IV, content and tag
	parsed  *signer.SealedToken
}

func newSealer(t *testing.T, pub *rsa.PublicKey, kid string, size int) sealer {
	t.Helper()
	s := sealer{pub: pub, alg: signer.RSAOAEP256, headers: map[bool]string{}}
	encode := base64.RawURLEncoding.EncodeToString
	for known, id := range map[bool]string{true: kid, false: strings.Repeat("x", len(kid))} {
		s.headers[known] = encode(fmt.Appendf(nil, `{"alg":%q,"enc":"A256GCM","kid":%q}`, s.alg, id))
	}

	content := make([]byte, size)
	rand.Read(content)
	s.rest = encode(content[:12]) + "." + encode(content) + "." + encode(content[:16])
	var err error
	if s.parsed, err = signer.ParseSealed(s.jwe(wrongTag)); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s sealer) jwe(kind int) string {
	return s.headers[kind != unknownKID] + "." + base64.RawURLEncoding.EncodeToString(s.encryptedKey(kind)) + "." + s.rest
}

// sealed returns a JWE of a kind, parsed. All share the parts other than the encrypted key.
func (s sealer) sealed(kind int) *signer.SealedToken {
	sealed, recipient := *s.parsed, *s.parsed.Recipients[0]
	recipient.EncryptedKey = s.encryptedKey(kind)
	sealed.Recipients = []*signer.Recipient{&recipient}
	return &sealed
}

func (s sealer) encryptedKey(kind int) []byte {
	size := 32
	if kind == wrongLength {
		size = 16
	}
	cek := make([]byte, size)
	rand.Read(cek)

	key, err := rsa.EncryptOAEPWithOptions(rand.Reader, s.pub, cek, s.alg.DecrypterOpts())
	if err != nil {
		panic(err) // the public key is good
	}
	if kind == wrongPadding {
		rand.Read(key)
		key[0] &= 0x7f // below the modulus
	}
	return key
}

// versus returns a contest between two kinds.
func versus[I any](name string, a, b int, input func(kind int) I, use func(I) error) contest[I] {
	names := []string{"a wrong tag", "wrong padding", "a wrong length", "an unknown kid"}
	kinds := [2]int{a, b}
	return contest[I]{name, [2]string{names[a], names[b]}, func(kind int) I { return input(kinds[kind]) }, use}
}

// timedContent is the length of the content that is opened in this process.
const timedContent = 256 << 10

// TestTiming measures DecryptJWE in this process, with a software key and with a token key
// whose padding is removed in Go (TIMING_COUNT of each kind). It also measures a version
// that returns early, and must see that leak.
func TestTiming(t *testing.T) {
	n := timingCount(t, 1000)
	token := softhsm.New(t)
	backend, err := pkcs11.Open(t.Context(), token.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	}()

	soft, err := software.Open(t.Context(), software.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []struct {
		name    string
		backend signer.Backend
		ref     string
	}{
		{"SoftHSM2, raw", backend, token.Generate(t, "inbox", "rsa-2048", signer.UseEnc)},
		{"software", soft, "generate:rsa-2048"},
	} {
		v := openVersion(t, place.backend, place.ref)
		pub, ok := v.Public().(*rsa.PublicKey)
		if !ok {
			t.Fatal("not an RSA key")
		}
		s := newSealer(t, pub, v.KID(), timedContent)
		for _, kind := range []int{wrongPadding, wrongLength} {
			versus(place.name, wrongTag, kind, s.sealed, func(sealed *signer.SealedToken) error { return refuses(t.Context(), sealed, v.DecryptJWE) }).fair(t, n)
		}
		early := func(ctx context.Context, _ *signer.SealedToken, r *signer.Recipient) ([]byte, error) {
			return openEarly(ctx, v, r)
		}
		versus(place.name+", early return", wrongTag, wrongPadding, s.sealed, func(sealed *signer.SealedToken) error { return refuses(t.Context(), sealed, early) }).unfair(t, n)
	}
}

// timingCount returns the number of measurements of each kind.
func timingCount(t *testing.T, otherwise int) int {
	t.Helper()
	if testing.Short() || raceEnabled {
		otherwise /= 2
	}
	return setting(t, "TIMING_COUNT", otherwise)
}

func openVersion(t *testing.T, b signer.Backend, ref string) *signer.Version {
	t.Helper()
	key, err := b.OpenKey(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	v, err := signer.NewVersion(key, signer.VersionConfig{Algs: []signer.Alg{signer.RSAOAEP256}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// An opener opens a JWE for one of its recipients.
type opener func(context.Context, *signer.SealedToken, *signer.Recipient) ([]byte, error)

// refuses opens a JWE, which must fail with ErrDecrypt.
func refuses(ctx context.Context, sealed *signer.SealedToken, open opener) error {
	if _, err := open(ctx, sealed, sealed.Recipients[0]); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
		return fmt.Errorf("%w, want ErrDecrypt itself", err)
	}
	return nil
}

// openEarly is DecryptJWE with a leak: it returns as soon as the key does not unwrap, and
// does not decrypt the content.
func openEarly(ctx context.Context, v *signer.Version, r *signer.Recipient) ([]byte, error) {
	cek, err := v.UnwrapCEK(ctx, r.WrappedCEK)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, err
	}

	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	content := make([]byte, timedContent)
	if _, err := aead.Open(content[:0], content[:12], content, nil); err == nil {
		return content, nil
	}
	return nil, signer.ErrDecrypt
}

// TestE2ETiming measures the answers of a daemon over its socket. A kid that no key has
// shows that the method sees a difference there: that answer needs no token.
func TestE2ETiming(t *testing.T) {
	n := timingCount(t, 600)
	settings := newSettings(t)
	settings.log = `{level: warn}`
	var err error
	if settings.binary, err = softhsm.Signetd(); err != nil { // as users have it, without the race detector
		t.Fatal(err)
	}

	p := start(t, settings)
	inbox := p.publicKey("inbox")
	pub, ok := inbox.Key.(*rsa.PublicKey)
	if !ok {
		t.Fatal("not an RSA key")
	}

	s := newSealer(t, pub, inbox.KeyID, 64<<10)
	want := ""
	use := func(jwe string) error {
		a, err := send(p.client, http.MethodPost, api.DecryptJWE.Path, `{"jwe":"`+jwe+`"}`)
		if err != nil {
			return err
		}
		if want == "" {
			want = a.withoutID()
		}
		if a.status != http.StatusUnprocessableEntity || a.withoutID() != want {
			return fmt.Errorf("%d %s, want %s", a.status, a.body, want)
		}
		return nil
	}
	for _, kind := range []int{wrongPadding, wrongLength} {
		versus("over the socket", wrongTag, kind, s.jwe, use).fair(t, n)
	}

	versus("over the socket", wrongTag, unknownKID, s.jwe, use).unfair(t, n)
}
