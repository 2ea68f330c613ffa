// Package signertest is the conformance suite for everything that hands out
// keys: each backend runs it, and so does the client over the socket.
package signertest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"signetd/signer"
)

// A Kind is a sort of key that the suite wants to see.
type Kind string

// The kinds of key. RSA keys have 2048 bits or more.
const (
	ECP256 Kind = "ec-p256"
	ECP384 Kind = "ec-p384"
	ECP521 Kind = "ec-p521"
	RSASig Kind = "rsa-sig" // signs and does not decrypt
	RSAEnc Kind = "rsa-enc" // decrypts and does not sign
)

var signAlgs = map[Kind][]signer.Alg{
	ECP256: {signer.ES256},
	ECP384: {signer.ES384},
	ECP521: {signer.ES512},
	RSASig: {signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512},
}

var encAlgs = []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512}

// A Config says what to test.
type Config struct {
	// Open returns a new backend that holds a key of each kind in Refs. The suite
	// closes it.
	Open func(t *testing.T) signer.Backend
	// Refs is the backend's own address of a key of each kind. A kind that is left
	// out is not tested, and counts as stated: leave out what the backend lacks.
	Refs map[Kind]string
	// Missing is a ref in the right form that names no key.
	Missing string
	// Lacks are algorithms that the backend cannot do. The suite checks that it
	// says so with ErrUnsupported.
	Lacks []signer.Alg
}

type suite struct {
	Config
	backend signer.Backend
}

// Run runs the suite as subtests of t.
func Run(t *testing.T, c Config) {
	if len(c.Refs) == 0 {
		t.Fatal("signertest: no keys to test")
	}
	s := suite{Config: c, backend: c.Open(t)}
	t.Cleanup(func() {
		if err := s.backend.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	t.Run("ping", s.ping)
	t.Run("missing key", s.missing)
	for kind, algs := range signAlgs {
		if _, ok := c.Refs[kind]; ok {
			t.Run("sign "+string(kind), func(t *testing.T) { s.sign(t, kind, algs) })
			t.Run("wrong digest "+string(kind), func(t *testing.T) { s.wrongDigest(t, kind, algs[0]) })
			t.Run("wrong algorithm "+string(kind), func(t *testing.T) { s.wrongAlg(t, kind) })
			t.Run("cancelled "+string(kind), func(t *testing.T) { s.cancelled(t, kind, algs[0]) })
			t.Run("concurrent "+string(kind), func(t *testing.T) { s.concurrentSign(t, kind, algs[0]) })
		}
	}
	if _, ok := c.Refs[RSAEnc]; ok {
		t.Run("decrypt", s.decrypt)
		t.Run("decrypt tampered", s.tampered)
		t.Run("decrypt wrong options", s.wrongOptions)
		t.Run("decrypt cancelled", s.decryptCancelled)
		t.Run("decrypt concurrent", s.concurrentDecrypt)
	}
	t.Run("close while busy", s.closeBusy)
}

func (s *suite) open(t *testing.T, b signer.Backend, kind Kind) signer.Key {
	t.Helper()
	k, err := b.OpenKey(t.Context(), s.Refs[kind])
	if err != nil {
		t.Fatalf("OpenKey(%q) = %v", s.Refs[kind], err)
	}
	return k
}

func (s *suite) signer(t *testing.T, b signer.Backend, kind Kind) signer.Signer {
	t.Helper()
	k, ok := s.open(t, b, kind).(signer.Signer)
	if !ok {
		t.Fatalf("the key of kind %s is no signer.Signer", kind)
	}
	return k
}

func (s *suite) decrypter(t *testing.T, b signer.Backend) signer.Decrypter {
	t.Helper()
	k, ok := s.open(t, b, RSAEnc).(signer.Decrypter)
	if !ok {
		t.Fatal("the key of kind rsa-enc is no signer.Decrypter")
	}
	return k
}

func (s *suite) ping(t *testing.T) {
	if err := s.backend.Ping(t.Context()); err != nil {
		t.Errorf("Ping() = %v", err)
	}
}

func (s *suite) missing(t *testing.T) {
	if s.Missing == "" {
		t.Fatal("signertest: Config.Missing is empty")
	}
	if _, err := s.backend.OpenKey(t.Context(), s.Missing); !errors.Is(err, signer.ErrNotFound) {
		t.Errorf("OpenKey(%q) = %v, want ErrNotFound", s.Missing, err)
	}
}

func digest(alg signer.Alg, text string) []byte {
	h := alg.Hash().New()
	h.Write([]byte(text))
	return h.Sum(nil)
}

// sign signs with every algorithm of the key and verifies with the standard
// library alone, so that a mistake of package signer does not hide one of the
// backend.
func (s *suite) sign(t *testing.T, kind Kind, algs []signer.Alg) {
	k := s.signer(t, s.backend, kind)
	if _, err := x509.MarshalPKIXPublicKey(k.Public()); err != nil {
		t.Fatalf("Public(): %v", err)
	}
	for _, alg := range algs {
		d := digest(alg, "conformance")
		sig, err := k.SignContext(t.Context(), d, alg.SignerOpts())
		if slices.Contains(s.Lacks, alg) {
			if !errors.Is(err, signer.ErrUnsupported) {
				t.Errorf("%s: SignContext() = %v, want ErrUnsupported: the backend says that it lacks it", alg, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: SignContext() = %v", alg, err)
			continue
		}
		if err := verify(k.Public(), alg, d, sig); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		if sig, err = k.Sign(rand.Reader, d, alg.SignerOpts()); err != nil || verify(k.Public(), alg, d, sig) != nil {
			t.Errorf("%s: crypto.Signer's Sign() = %v, or its signature does not verify", alg, err)
		}
	}
}

func verify(pub crypto.PublicKey, alg signer.Alg, digest, sig []byte) error {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		var rs struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(sig, &rs); err != nil || len(rest) != 0 {
			return errors.New("signature is no ASN.1 DER")
		}
		if !ecdsa.Verify(pub, digest, rs.R, rs.S) {
			return errors.New("signature does not verify")
		}
		return nil
	case *rsa.PublicKey:
		if alg.Family() == signer.FamilyPSS {
			return rsa.VerifyPSS(pub, alg.Hash(), digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.VerifyPKCS1v15(pub, alg.Hash(), digest, sig)
	default:
		return errors.New("public key of another type")
	}
}

func (s *suite) wrongDigest(t *testing.T, kind Kind, alg signer.Alg) {
	k := s.signer(t, s.backend, kind)
	good := digest(alg, "conformance")
	for _, d := range [][]byte{nil, good[:5], good[:len(good)-1], append(slices.Clone(good), 0), make([]byte, 100)} {
		if _, err := k.SignContext(t.Context(), d, alg.SignerOpts()); !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("%s: SignContext(%d bytes) = %v, want ErrInvalid", alg, len(d), err)
		}
	}
}

func (s *suite) wrongAlg(t *testing.T, kind Kind) {
	k := s.signer(t, s.backend, kind)
	for other, algs := range signAlgs {
		for _, alg := range algs {
			if alg.Fits(k.Public()) == nil || other == kind {
				continue
			}
			if alg.Family() == signer.FamilyPKCS1v15 && kind != RSASig {
				continue // the same options as ECDSA with that hash
			}
			if alg.Family() == signer.FamilyECDSA && kind == RSASig {
				continue // the same options as PKCS #1 v1.5 with that hash
			}
			if _, err := k.SignContext(t.Context(), digest(alg, "x"), alg.SignerOpts()); !errors.Is(err, signer.ErrUnsupported) {
				t.Errorf("SignContext(%s) with a key of kind %s = %v, want ErrUnsupported", alg, kind, err)
			}
		}
	}
	if _, err := k.SignContext(t.Context(), make([]byte, 16), crypto.MD5); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("SignContext(MD5) = %v, want ErrUnsupported", err)
	}
	if kind == RSASig {
		opts := &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256}
		if _, err := k.SignContext(t.Context(), make([]byte, 32), opts); !errors.Is(err, signer.ErrUnsupported) {
			t.Errorf("SignContext(PSS with a salt of 20 bytes) = %v, want ErrUnsupported", err)
		}
	}
}

func (s *suite) cancelled(t *testing.T, kind Kind, alg signer.Alg) {
	k := s.signer(t, s.backend, kind)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.SignContext(ctx, digest(alg, "x"), alg.SignerOpts()); !errors.Is(err, context.Canceled) {
		t.Errorf("SignContext(cancelled) = %v, want context.Canceled", err)
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	if _, err := k.SignContext(ctx, digest(alg, "x"), alg.SignerOpts()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("SignContext(past deadline) = %v, want context.DeadlineExceeded", err)
	}
	if _, err := k.SignContext(t.Context(), digest(alg, "x"), alg.SignerOpts()); err != nil {
		t.Errorf("SignContext() after a cancelled one = %v", err)
	}
}

const (
	goroutines = 64
	rounds     = 4
)

// parallel calls f in 64 goroutines, a few times in each.
func parallel(f func(g, round int)) {
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for r := range rounds {
				f(g, r)
			}
		})
	}
	wg.Wait()
}

func (s *suite) concurrentSign(t *testing.T, kind Kind, alg signer.Alg) {
	k := s.signer(t, s.backend, kind)
	parallel(func(g, r int) {
		d := digest(alg, fmt.Sprint(g, r)) // another for each: an answer to the wrong caller shows
		sig, err := k.SignContext(t.Context(), d, alg.SignerOpts())
		if err != nil {
			t.Errorf("SignContext() = %v", err)
			return
		}
		if err := verify(k.Public(), alg, d, sig); err != nil {
			t.Error(err)
		}
	})
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
			if slices.Contains(s.Lacks, alg) {
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

// lane is an algorithm that the backend does not lack.
func (s *suite) lane() signer.Alg {
	return encAlgs[slices.IndexFunc(encAlgs, func(a signer.Alg) bool { return !slices.Contains(s.Lacks, a) })]
}

func (s *suite) tampered(t *testing.T) {
	k := s.decrypter(t, s.backend)
	for _, alg := range encAlgs {
		if slices.Contains(s.Lacks, alg) {
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
	ct := s.encrypt(t, k, s.lane(), []byte("x"))
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
	ct := s.encrypt(t, k, s.lane(), []byte("x"))
	if _, err := k.DecryptContext(ctx, ct, s.lane().DecrypterOpts()); !errors.Is(err, context.Canceled) {
		t.Errorf("DecryptContext(cancelled) = %v, want context.Canceled", err)
	}
}

func (s *suite) concurrentDecrypt(t *testing.T) {
	k := s.decrypter(t, s.backend)
	alg := s.lane()
	parallel(func(g, r int) {
		want := fmt.Append(nil, "secret ", g, r)
		got, err := k.DecryptContext(t.Context(), s.encrypt(t, k, alg, want), alg.DecrypterOpts())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("DecryptContext() = %x, %v; want %x", got, err, want)
		}
	})
}

// closeBusy closes a second backend under load: what was in flight finishes,
// what comes later is ErrUnavailable, and nothing else is seen.
func (s *suite) closeBusy(t *testing.T) {
	b := s.Open(t)
	var use func() error
	if _, ok := s.Refs[ECP256]; ok {
		k := s.signer(t, b, ECP256)
		use = func() error {
			_, err := k.SignContext(context.WithoutCancel(t.Context()), digest(signer.ES256, "x"), signer.ES256.SignerOpts())
			return err
		}
	} else {
		k := s.signer(t, b, RSASig)
		use = func() error {
			_, err := k.SignContext(context.WithoutCancel(t.Context()), digest(signer.RS256, "x"), signer.RS256.SignerOpts())
			return err
		}
	}
	var wg sync.WaitGroup
	started := make(chan struct{}, goroutines)
	for range goroutines {
		wg.Go(func() {
			for {
				err := use()
				select {
				case started <- struct{}{}:
				default:
				}
				if errors.Is(err, signer.ErrUnavailable) {
					return
				}
				if err != nil {
					t.Errorf("SignContext() during Close = %v, want a signature or ErrUnavailable", err)
					return
				}
			}
		})
	}
	<-started
	if err := b.Close(); err != nil {
		t.Errorf("Close() under load = %v", err)
	}
	wg.Wait()
	if err := b.Close(); err != nil {
		t.Errorf("second Close() = %v, want nil", err)
	}
	if _, err := b.OpenKey(t.Context(), s.Missing); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("OpenKey() after Close = %v, want ErrUnavailable", err)
	}
}
