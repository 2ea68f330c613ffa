// Package signertest is the conformance suite for everything that opens keys: each backend
// runs it, and so does the client over the socket.
package signertest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"signetd/signer"
)

// A Kind is a type of key that the suite tests.
type Kind string

// The kinds of key. RSA keys have 2048 bits or more.
const (
	ECP256 Kind = "ec-p256"
	ECP384 Kind = "ec-p384"
	ECP521 Kind = "ec-p521"
	RSASig Kind = "rsa-sig" // signs and does not decrypt
	RSAEnc Kind = "rsa-enc" // decrypts and does not sign

	Ed25519   Kind = "ed25519"
	MLDSA44   Kind = "ml-dsa-44"
	MLDSA65   Kind = "ml-dsa-65"
	MLDSA87   Kind = "ml-dsa-87"
	Secp256k1 Kind = "ec-secp256k1"
	HMAC      Kind = "hmac" // 64 bytes
	AES128    Kind = "aes-128"
	AES192    Kind = "aes-192"
	AES256    Kind = "aes-256"
	ECDHP256  Kind = "ecdh-p256" // agrees and does not sign
	ECDHP384  Kind = "ecdh-p384"
	ECDHP521  Kind = "ecdh-p521"
)

// A Config says what to test.
type Config struct {
	// Open returns a new backend that holds a key of each kind in Refs. The suite
	// closes it.
	Open func(t *testing.T) signer.Backend
	// Refs has a ref of the backend for a key of each kind. A kind that is left out is
	// not tested: leave out the kinds that the backend does not have.
	Refs map[Kind]string
	// Missing is a ref in the right form that names no key.
	Missing string
	// Lacks are algorithms that the backend cannot do. The suite checks that it refuses
	// them with ErrUnsupported.
	Lacks []signer.Alg
	// HMACKey is the value of the key of kind HMAC, if the test may know it. Optional.
	HMACKey []byte
	// NoPaddedWrap is true if the backend has no RFC 5649 key wrap. The suite checks that
	// it refuses it with ErrUnsupported.
	NoPaddedWrap bool
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
			has := s.first(algs)
			if has.Hash() != 0 { // without a hash, any length is right
				t.Run("wrong digest "+string(kind), func(t *testing.T) { s.wrongDigest(t, kind, has) })
			}
			t.Run("wrong algorithm "+string(kind), func(t *testing.T) { s.wrongAlg(t, kind) })
			t.Run("cancelled "+string(kind), func(t *testing.T) { s.cancelled(t, kind, has) })
			t.Run("concurrent "+string(kind), func(t *testing.T) { s.concurrentSign(t, kind, has) })
		}
	}

	if _, ok := c.Refs[RSAEnc]; ok {
		t.Run("decrypt", s.decrypt)
		t.Run("decrypt tampered", s.tampered)
		t.Run("decrypt wrong options", s.wrongOptions)
		t.Run("decrypt cancelled", s.decryptCancelled)
		t.Run("decrypt concurrent", s.concurrentDecrypt)
	}
	if _, ok := c.Refs[HMAC]; ok {
		t.Run("mac", s.mac)
	}
	for kind, size := range aesSizes {
		if _, ok := c.Refs[kind]; ok {
			t.Run("wrap "+string(kind), func(t *testing.T) { s.wrap(t, kind, size) })
			t.Run("aead "+string(kind), func(t *testing.T) { s.aead(t, kind, size) })
		}
	}
	for kind, curve := range ecdhCurves {
		if _, ok := c.Refs[kind]; ok {
			t.Run("agree "+string(kind), func(t *testing.T) { s.agree(t, kind, curve) })
		}
	}

	t.Run("jwe", s.jwe)
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

// first is the first of algs that the backend does not lack.
func (s *suite) first(algs []signer.Alg) signer.Alg {
	return algs[slices.IndexFunc(algs, func(a signer.Alg) bool { return !slices.Contains(s.Lacks, a) })]
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

// closeBusy closes a second backend under load: calls in flight finish, later ones are
// ErrUnavailable, and no call gets any other error.
func (s *suite) closeBusy(t *testing.T) {
	b := s.Open(t)
	kind, alg := RSASig, signer.RS256
	if _, ok := s.Refs[ECP256]; ok && !s.lacks(signer.ES256) {
		kind, alg = ECP256, signer.ES256
	}
	k := s.signer(t, b, kind)

	var wg sync.WaitGroup
	started := make(chan struct{}, goroutines)
	for range goroutines {
		wg.Go(func() {
			for {
				_, err := k.SignContext(context.WithoutCancel(t.Context()), digest(alg, "x"), alg.SignerOpts())
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
