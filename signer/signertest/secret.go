package signertest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"

	"signetd/signer"
)

// lacks reports whether the backend is said to lack alg.
func (s *suite) lacks(alg signer.Alg) bool { return slices.Contains(s.Lacks, alg) }

// secret opens a symmetric key and checks what it says of itself.
func (s *suite) secret(t *testing.T, kind Kind, want signer.Secret) signer.Key {
	t.Helper()
	k := s.open(t, s.backend, kind)
	if got, ok := k.Public().(signer.Secret); !ok || got.Type != want.Type || (want.Size != 0 && got.Size != want.Size) {
		t.Errorf("Public() of the key of kind %s = %#v, want %#v", kind, k.Public(), want)
	}
	return k
}

// mac makes MACs. Unless the test knows the key it can only check that they depend on
// message and hash, as a MAC does.
func (s *suite) mac(t *testing.T) {
	k, ok := s.secret(t, HMAC, signer.Secret{Type: signer.SecretHMAC}).(signer.MACer)
	if !ok {
		t.Fatal("the key of kind hmac is not a signer.MACer")
	}
	for _, alg := range []signer.Alg{signer.HS256, signer.HS384, signer.HS512} {
		one, err := k.MACContext(t.Context(), []byte("conformance"), alg.Hash())
		if s.lacks(alg) {
			if !errors.Is(err, signer.ErrUnsupported) {
				t.Errorf("%s: MACContext() = %v, want ErrUnsupported: the backend says that it lacks it", alg, err)
			}
			continue
		}

		if err != nil || len(one) != alg.Hash().Size() {
			t.Errorf("%s: MACContext() = %d bytes, %v", alg, len(one), err)
			continue
		}
		if s.HMACKey != nil {
			h := hmac.New(alg.Hash().New, s.HMACKey)
			h.Write([]byte("conformance"))
			if !hmac.Equal(h.Sum(nil), one) {
				t.Errorf("%s: MACContext() is not the HMAC with the key", alg)
			}
		}

		again, err := k.MACContext(t.Context(), []byte("conformance"), alg.Hash())
		if err != nil || !bytes.Equal(one, again) {
			t.Errorf("%s: MACContext() twice differs: %v", alg, err)
		}
		other, err := k.MACContext(t.Context(), []byte("conformancf"), alg.Hash())
		if err != nil || bytes.Equal(one, other) {
			t.Errorf("%s: MACContext() of two messages is the same: %v", alg, err)
		}
	}

	if _, err := k.MACContext(t.Context(), []byte("x"), crypto.MD5); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("MACContext(MD5) = %v, want ErrUnsupported", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	has := s.first([]signer.Alg{signer.HS256, signer.HS384, signer.HS512})
	if _, err := k.MACContext(ctx, []byte("x"), has.Hash()); !errors.Is(err, context.Canceled) {
		t.Errorf("MACContext(cancelled) = %v, want context.Canceled", err)
	}
}

var aesSizes = map[Kind]int{AES128: 16, AES192: 24, AES256: 32}

var (
	kwAlgs  = map[int]signer.Alg{16: signer.A128KW, 24: signer.A192KW, 32: signer.A256KW}
	gcmAlgs = map[int]signer.Alg{16: signer.A128GCMKW, 24: signer.A192GCMKW, 32: signer.A256GCMKW}
)

// wrap wraps and unwraps keys of all lengths, and refuses wrapped keys that were changed.
func (s *suite) wrap(t *testing.T, kind Kind, size int) {
	k, ok := s.secret(t, kind, signer.Secret{Type: signer.SecretAES, Size: size}).(signer.Wrapper)
	if !ok || s.lacks(kwAlgs[size]) {
		if !s.lacks(kwAlgs[size]) {
			t.Fatalf("the key of kind %s is not a signer.Wrapper", kind)
		}
		return
	}

	sizes := map[signer.WrapForm][]int{signer.WrapRFC3394: {16, 24, 32, 48, 64}, signer.WrapRFC5649: {1, 7, 8, 9, 16, 20, 32, 65}}
	if s.NoPaddedWrap {
		delete(sizes, signer.WrapRFC5649)
		if _, err := k.WrapContext(t.Context(), signer.WrapRFC5649, make([]byte, 16)); !errors.Is(err, signer.ErrUnsupported) {
			t.Errorf("WrapContext(RFC 5649) = %v, want ErrUnsupported: the backend says that it lacks it", err)
		}
	}

	for form, lengths := range sizes {
		for _, n := range lengths {
			want := make([]byte, n)
			rand.Read(want)
			wrapped, err := k.WrapContext(t.Context(), form, want)
			if err != nil {
				t.Errorf("WrapContext(form %d, %d bytes) = %v", form, n, err)
				continue
			}
			if got, err := k.UnwrapContext(t.Context(), form, wrapped); err != nil || !bytes.Equal(got, want) {
				t.Errorf("UnwrapContext(form %d, %d bytes) = %d bytes, %v", form, n, len(got), err)
			}
			for name, bad := range spoil(wrapped) {
				if got, err := k.UnwrapContext(t.Context(), form, bad); !bare(err) || got != nil {
					t.Errorf("UnwrapContext(form %d, %d bytes, %s) = %d bytes, %v; want ErrDecrypt and nothing else", form, n, name, len(got), err)
				}
			}
		}
	}
	for _, n := range []int{0, 8, 15, 17} {
		if _, err := k.WrapContext(t.Context(), signer.WrapRFC3394, make([]byte, n)); !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("WrapContext(RFC 3394, %d bytes) = %v, want ErrInvalid", n, err)
		}
	}

	parallel(func(g, r int) {
		want := fmt.Appendf(nil, "%016d", g*rounds+r)
		wrapped, err := k.WrapContext(t.Context(), signer.WrapRFC3394, want)
		if err != nil {
			t.Errorf("WrapContext() = %v", err)
			return
		}
		if got, err := k.UnwrapContext(t.Context(), signer.WrapRFC3394, wrapped); err != nil || !bytes.Equal(got, want) {
			t.Errorf("UnwrapContext() = %q, %v; want %q", got, err, want)
		}
	})
}

// bare reports whether err is ErrDecrypt and says nothing else.
func bare(err error) bool {
	return errors.Is(err, signer.ErrDecrypt) && err.Error() == signer.ErrDecrypt.Error()
}

// spoil returns changed forms of good, by name.
func spoil(good []byte) map[string][]byte {
	flip := func(i int) []byte { c := slices.Clone(good); c[i] ^= 1; return c }
	return map[string][]byte{
		"first byte": flip(0), "middle byte": flip(len(good) / 2), "last byte": flip(len(good) - 1),
		"truncated": good[:len(good)-1], "half": good[:len(good)/2], "empty": nil,
		"one too many": append(slices.Clone(good), 0), "a block too many": append(slices.Clone(good), make([]byte, 8)...),
		"zero": make([]byte, len(good)),
	}
}

// aead seals and opens, and refuses what was changed.
func (s *suite) aead(t *testing.T, kind Kind, size int) {
	k, ok := s.secret(t, kind, signer.Secret{Type: signer.SecretAES, Size: size}).(signer.AEAD)
	if !ok || s.lacks(gcmAlgs[size]) {
		if !s.lacks(gcmAlgs[size]) {
			t.Fatalf("the key of kind %s is not a signer.AEAD", kind)
		}
		return
	}

	ivs := map[string]bool{}
	for _, n := range []int{0, 1, 16, 32, 1000, 100_000} {
		want, aad := make([]byte, n), []byte("eyJhbGciOiJkaXIifQ")
		rand.Read(want)
		iv, sealed, err := k.SealContext(t.Context(), want, aad)
		if err != nil || len(iv) != signer.GCMIVSize || len(sealed) != n+signer.GCMTagSize {
			t.Errorf("SealContext(%d bytes) = an IV of %d, %d bytes, %v", n, len(iv), len(sealed), err)
			continue
		}
		if ivs[string(iv)] {
			t.Error("SealContext() used an IV twice")
		}
		ivs[string(iv)] = true

		if got, err := k.OpenContext(t.Context(), iv, sealed, aad); err != nil || !bytes.Equal(got, want) {
			t.Errorf("OpenContext(%d bytes) = %d bytes, %v", n, len(got), err)
		}
		for name, bad := range spoil(sealed) {
			if got, err := k.OpenContext(t.Context(), iv, bad, aad); !bare(err) || got != nil {
				t.Errorf("OpenContext(%d bytes, %s) = %d bytes, %v; want ErrDecrypt and nothing else", n, name, len(got), err)
			}
		}
		for name, bad := range map[string][]byte{"no IV": nil, "short IV": iv[:8], "long IV": append(slices.Clone(iv), 0), "another IV": make([]byte, 12)} {
			if got, err := k.OpenContext(t.Context(), bad, sealed, aad); !bare(err) || got != nil {
				t.Errorf("OpenContext(%d bytes, %s) = %d bytes, %v; want ErrDecrypt and nothing else", n, name, len(got), err)
			}
		}
		if got, err := k.OpenContext(t.Context(), iv, sealed, aad[1:]); !bare(err) || got != nil {
			t.Errorf("OpenContext(%d bytes, other aad) = %d bytes, %v; want ErrDecrypt and nothing else", n, len(got), err)
		}
	}
}

var ecdhCurves = map[Kind]ecdh.Curve{ECDHP256: ecdh.P256(), ECDHP384: ecdh.P384(), ECDHP521: ecdh.P521()}

// agree agrees on a secret with a key of the standard library.
func (s *suite) agree(t *testing.T, kind Kind, curve ecdh.Curve) {
	k, ok := s.open(t, s.backend, kind).(signer.Agreer)
	if !ok {
		t.Fatalf("the key of kind %s is not a signer.Agreer", kind)
	}
	pub, ok := k.Public().(*ecdsa.PublicKey)
	if !ok {
		t.Fatalf("Public() is a %T, want an *ecdsa.PublicKey", k.Public())
	}
	own, err := pub.ECDH()
	if err != nil || own.Curve() != curve {
		t.Fatalf("Public() is on %v, %v; want %v", own, err, curve)
	}

	parallel(func(int, int) {
		peer, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			t.Error(err)
			return
		}
		want, err := peer.ECDH(own)
		if err != nil {
			t.Error(err)
			return
		}
		if got, err := k.AgreeContext(t.Context(), peer.PublicKey()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("AgreeContext() = %d bytes, %v; want the %d bytes that the other side has", len(got), err, len(want))
		}
	})

	for _, other := range ecdhCurves {
		if other == curve {
			continue
		}
		stranger, err := other.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.AgreeContext(t.Context(), stranger.PublicKey()); !bare(err) || got != nil {
			t.Errorf("AgreeContext(a key on %v) = %d bytes, %v; want ErrDecrypt and nothing else", other, len(got), err)
		}
	}
}

// jwe encrypts a JWE to each key that opens JWEs, and opens it, with every algorithm and
// content encryption that fit the key.
func (s *suite) jwe(t *testing.T) {
	for kind := range s.Refs {
		k := s.open(t, s.backend, kind)
		for _, alg := range signer.Algs(k.Public()) {
			v, err := signer.NewVersion(k, signer.VersionConfig{KID: "k", Algs: []signer.Alg{alg}})
			if alg.Use() != signer.UseEnc || err != nil { // the other tests know which algorithms must work
				continue
			}

			if err := v.Prove(t.Context()); err != nil {
				t.Errorf("%s with the key of kind %s: Prove() = %v", alg, kind, err)
			}
			for _, enc := range []string{"A128GCM", "A192GCM", "A256GCM", "A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512"} {
				roundTrip(t, v, alg, enc)
			}
		}
	}
}

func roundTrip(t *testing.T, v *signer.Version, alg signer.Alg, enc string) {
	t.Helper()
	want := []byte("a sealed envelope")
	jwe, err := v.EncryptJWE(t.Context(), enc, signer.Header{}, want)
	if errors.Is(err, signer.ErrUnsupported) && alg == signer.Dir { // a key goes with one enc
		return
	}
	if err != nil {
		t.Errorf("%s %s: EncryptJWE() = %v", alg, enc, err)
		return
	}

	sealed, err := signer.ParseSealed(jwe)
	if err != nil {
		t.Errorf("%s %s: ParseSealed() = %v", alg, enc, err)
		return
	}
	got, err := v.DecryptJWE(t.Context(), sealed, sealed.Recipients[0])
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s %s: DecryptJWE() = %q, %v", alg, enc, got, err)
	}
}
