package signertest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"testing"

	"signetd/signer"
)

var encAlgs = []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512}

func (s *suite) decrypter(t *testing.T, b signer.Backend) signer.Decrypter {
	t.Helper()
	k, ok := s.open(t, b, RSAEnc).(signer.Decrypter)
	if !ok {
		t.Fatal("the key of kind rsa-enc is not a signer.Decrypter")
	}
	return k
}

func (s *suite) encrypt(t *testing.T, k signer.Decrypter, alg signer.Alg, plaintext []byte) []byte {
	t.Helper()
	pub, ok := k.Public().(*rsa.PublicKey)
	if !ok {
		t.Fatalf("Public() is a %T, want an *rsa.PublicKey", k.Public())
	}
	ct, err := rsa.EncryptOAEP(alg.Hash().New(), rand.Reader, pub, plaintext, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ct
}

func (s *suite) decrypt(t *testing.T) {
	k := s.decrypter(t, s.backend)
	for _, alg := range encAlgs {
		longest := k.Public().(*rsa.PublicKey).Size() - 2*alg.Hash().Size() - 2
		for _, size := range []int{0, 1, 16, 32, 64, longest} {
			want := make([]byte, size)
			rand.Read(want)

			got, err := k.DecryptContext(t.Context(), s.encrypt(t, k, alg, want), alg.DecrypterOpts())
			if s.lacks(alg) {
				if !errors.Is(err, signer.ErrUnsupported) {
					t.Errorf("%s: DecryptContext() = %v, want ErrUnsupported: the backend says that it lacks it", alg, err)
				}
				continue
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: DecryptContext(%d bytes) = %d bytes, %v", alg, size, len(got), err)
			}
		}
	}
}

// oaep returns an algorithm that the backend has.
func (s *suite) oaep() signer.Alg { return s.first(encAlgs) }

func (s *suite) tampered(t *testing.T) {
	k := s.decrypter(t, s.backend)
	for _, alg := range encAlgs {
		if s.lacks(alg) {
			continue
		}

		good := s.encrypt(t, k, alg, make([]byte, 32))
		n := k.Public().(*rsa.PublicKey).N
		flip := func(i int) []byte { c := slices.Clone(good); c[i] ^= 1; return c }
		tests := map[string][]byte{
			"first byte":   flip(0),
			"last byte":    flip(len(good) - 1),
			"truncated":    good[:len(good)-1],
			"half":         good[:len(good)/2],
			"empty":        nil,
			"one too many": append(slices.Clone(good), 0),
			"zero":         make([]byte, len(good)),
			"one":          append(make([]byte, len(good)-1), 1),
			"modulus":      n.FillBytes(make([]byte, len(good))),
			"all ones":     bytes.Repeat([]byte{0xff}, len(good)),
			"another hash": s.encrypt(t, k, encAlgs[(slices.Index(encAlgs, alg)+1)%len(encAlgs)], make([]byte, 32)),
		}

		for name, ct := range tests {
			got, err := k.DecryptContext(t.Context(), ct, alg.DecrypterOpts())
			if !errors.Is(err, signer.ErrDecrypt) || err.Error() != signer.ErrDecrypt.Error() || got != nil {
				t.Errorf("%s: DecryptContext(%s) = %d bytes, %v; want ErrDecrypt and nothing else", alg, name, len(got), err)
			}
		}
		if _, err := k.DecryptContext(t.Context(), good, alg.DecrypterOpts()); err != nil {
			t.Errorf("%s: DecryptContext() after bad ciphertexts = %v", alg, err)
		}
	}
}

func (s *suite) wrongOptions(t *testing.T) {
	k := s.decrypter(t, s.backend)
	ct := s.encrypt(t, k, s.oaep(), []byte("x"))
	tests := map[string]crypto.DecrypterOpts{
		"nil":        nil,
		"a string":   "RSA-OAEP",
		"label":      &rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("x")},
		"mixed hash": &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA1},
		"no hash":    &rsa.OAEPOptions{},
		"MD5":        &rsa.OAEPOptions{Hash: crypto.MD5},
	}

	for name, opts := range tests {
		if _, err := k.DecryptContext(t.Context(), ct, opts); !errors.Is(err, signer.ErrUnsupported) {
			t.Errorf("DecryptContext(options %s) = %v, want ErrUnsupported", name, err)
		}
	}
}

func (s *suite) decryptCancelled(t *testing.T) {
	k := s.decrypter(t, s.backend)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ct := s.encrypt(t, k, s.oaep(), []byte("x"))
	if _, err := k.DecryptContext(ctx, ct, s.oaep().DecrypterOpts()); !errors.Is(err, context.Canceled) {
		t.Errorf("DecryptContext(cancelled) = %v, want context.Canceled", err)
	}
}

func (s *suite) concurrentDecrypt(t *testing.T) {
	k := s.decrypter(t, s.backend)
	alg := s.oaep()
	parallel(func(g, r int) {
		want := fmt.Append(nil, "secret ", g, r)
		got, err := k.DecryptContext(t.Context(), s.encrypt(t, k, alg, want), alg.DecrypterOpts())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("DecryptContext() = %x, %v; want %x", got, err, want)
		}
	})
}
