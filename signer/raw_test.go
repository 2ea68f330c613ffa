package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"signetd/signer"
)

// A rawKey has its signatures in the form of JOSE, and cannot give them in DER.
type rawKey struct {
	signer.Signer
	sig             []byte // if set, what it has for everything
	mu              sync.Mutex
	digest, message []byte // it was given last
}

func (k *rawKey) SignRaw(ctx context.Context, alg signer.Alg, digest, message []byte) ([]byte, error) {
	k.mu.Lock()
	k.digest, k.message = digest, message
	k.mu.Unlock()
	if k.sig != nil {
		return k.sig, nil
	}
	der, err := k.Signer.SignContext(ctx, digest, alg.SignerOpts())
	if err != nil {
		return nil, err
	}
	return signer.RawECDSA(der, 32)
}

func (k *rawKey) SignContext(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, fmt.Errorf("DER is not what it was to be asked for")
}

func rawVersion(t testing.TB, k *rawKey, skipVerify bool) *signer.Version {
	t.Helper()
	k.Signer = open(t, "generate:ec-p256").(signer.Signer)
	v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, SkipVerify: skipVerify})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRawSigner(t *testing.T) {
	k := &rawKey{}
	v := rawVersion(t, k, false)
	jws, err := v.SignJWS(t.Context(), "", signer.Header{Typ: "JWT"}, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	input := jws.Protected() + "." + jws.Payload()
	sum := sha256.Sum256([]byte(input))
	if string(k.message) != input || !bytes.Equal(k.digest, sum[:]) || !bytes.Equal(jws.Digest, sum[:]) {
		t.Errorf("SignRaw() was given %q with digest %x, and the JWS has %x; want %q with %x", k.message, k.digest, jws.Digest, input, sum)
	}
	sig, err := v.Sign(t.Context(), signer.ES256, sum[:])
	if err != nil || k.message != nil || !signer.VerifyDigest(v.Public(), signer.ES256, sum[:], sig) {
		t.Errorf("Sign() = %x, %v, with message %q; want a signature without one", sig, err, k.message)
	}
	if _, err := v.SignMessage(t.Context(), signer.ES256, nil); err != nil || k.message == nil {
		t.Errorf("SignMessage(nil) = %v, and the key was not given the message, which is empty", err)
	}
}

// TestRawSignerWrong has a key that returns bytes which are not a signature. A wrong length
// is seen even without verification.
func TestRawSignerWrong(t *testing.T) {
	for name, size := range map[string]int{"too short": 63, "too long": 65, "none": 0, "another": 64} {
		for _, skip := range []bool{false, true} {
			v := rawVersion(t, &rawKey{sig: make([]byte, size)}, skip)
			sig, err := v.SignMessage(t.Context(), signer.ES256, []byte("m"))
			if want := skip && size == 64; (err == nil) != want || (sig != nil) != want {
				t.Errorf("%s, SkipVerify %v: SignMessage() = %x, %v", name, skip, sig, err)
			}
		}
	}
}

// TestPlacesRaw has a key in two places, of which one signs in the form of JOSE.
func TestPlacesRaw(t *testing.T) {
	der := open(t, "generate:ec-p256").(signer.Signer)
	raw := &rawKey{Signer: der}
	v, err := signer.NewVersion(der, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, Places: make([]signer.PlaceConfig, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Join(t.Context(), 1, raw); err != nil {
		t.Fatal(err)
	}

	digest := make([]byte, 32)
	for range 4 { // the places take turns
		sig, err := v.Sign(t.Context(), signer.ES256, digest)
		if err != nil || !signer.VerifyDigest(v.Public(), signer.ES256, digest, sig) {
			t.Errorf("Sign() = %x, %v", sig, err)
		}
	}
	if raw.digest == nil {
		t.Error("the place that signs in the form of JOSE had no turn")
	}
}

// TestProtectedHeader asks for more headers than a version remembers, from several
// goroutines, and checks each.
func TestProtectedHeader(t *testing.T) {
	v := rawVersion(t, &rawKey{sig: make([]byte, 64)}, true)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 40 {
				h := signer.Header{Typ: fmt.Sprint("typ<&>", i%20), Cty: strings.Repeat("c", 4*(i%20))}
				jws, err := v.SignJWS(t.Context(), "", h, nil)
				if err != nil {
					t.Error(err)
					return
				}
				checkProtected(t, v, jws.Protected(), h)
			}
		})
	}

	wg.Wait()
}

func checkProtected(t *testing.T, v *signer.Version, protected string, h signer.Header) {
	text, err := base64.RawURLEncoding.DecodeString(protected)
	if err != nil {
		t.Error(err)
	}
	want := map[string]any{"alg": "ES256", "kid": v.KID(), "typ": h.Typ}
	if h.Cty != "" {
		want["cty"] = h.Cty
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil || !cmp.Equal(got, want) {
		t.Errorf("the protected header is %s, want %v", text, want)
	}
}

// TestSignJWSAllocs holds what a signature costs beside the key: the JWS, its input, the
// digest and the token.
func TestSignJWSAllocs(t *testing.T) {
	v := rawVersion(t, &rawKey{sig: make([]byte, 64)}, true)
	payload := make([]byte, 300)
	got := testing.AllocsPerRun(100, func() {
		if _, err := v.SignJWS(t.Context(), "", signer.Header{Typ: "JWT"}, payload); err != nil {
			t.Fatal(err)
		}
	})
	if got > 4 {
		t.Errorf("SignJWS() allocates %v times, want 4 or less", got)
	}
}
