package signertest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"filippo.io/mldsa"

	"signetd/signer"
)

// mldsaParameters are those of the library that the suite verifies with. It is not the
// library of package signetd/signer/mldsa.
var mldsaParameters = map[signer.Alg]mldsa.Parameters{
	signer.MLDSA44: mldsa.MLDSA44(), signer.MLDSA65: mldsa.MLDSA65(), signer.MLDSA87: mldsa.MLDSA87(),
}

var signAlgs = map[Kind][]signer.Alg{
	ECP256:    {signer.ES256},
	ECP384:    {signer.ES384},
	ECP521:    {signer.ES512},
	Secp256k1: {signer.ES256K},
	Ed25519:   {signer.EdDSA},
	MLDSA44:   {signer.MLDSA44},
	MLDSA65:   {signer.MLDSA65},
	MLDSA87:   {signer.MLDSA87},
	RSASig:    {signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512},
}

func (s *suite) signer(t *testing.T, b signer.Backend, kind Kind) signer.Signer {
	t.Helper()
	k, ok := s.open(t, b, kind).(signer.Signer)
	if !ok {
		t.Fatalf("the key of kind %s is not a signer.Signer", kind)
	}
	return k
}

// digest returns what a key signs of text with alg: for Ed25519 and ML-DSA, text itself.
func digest(alg signer.Alg, text string) []byte {
	if alg.Hash() == 0 {
		return []byte(text)
	}
	h := alg.Hash().New()
	h.Write([]byte(text))
	return h.Sum(nil)
}

// sign signs with every algorithm of the key. It verifies with the standard library, or for
// ML-DSA with another library than the backends, so that a mistake of package signer does
// not hide one of the backend.
func (s *suite) sign(t *testing.T, kind Kind, algs []signer.Alg) {
	k := s.signer(t, s.backend, kind)
	_, isAKP := k.Public().(*signer.AKP)
	if _, err := x509.MarshalPKIXPublicKey(k.Public()); err != nil && kind != Secp256k1 && !isAKP { // x509 does not know these two
		t.Fatalf("Public(): %v", err)
	}

	for _, alg := range algs {
		s.signMessage(t, k, alg)
		s.signRaw(t, k, alg)

		d := digest(alg, "conformance")
		sig, err := k.SignContext(t.Context(), d, alg.SignerOpts())
		if s.lacks(alg) {
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

// signMessage is sign for keys that hash by themselves. They may even have algorithms that
// they lack for a digest.
func (s *suite) signMessage(t *testing.T, k signer.Signer, alg signer.Alg) {
	m, ok := k.(signer.MessageSigner)
	if !ok {
		return
	}
	sig, err := m.SignMessageContext(t.Context(), []byte("conformance"), alg.SignerOpts())
	if s.lacks(alg) && errors.Is(err, signer.ErrUnsupported) {
		return
	}
	if err == nil {
		err = verify(k.Public(), alg, digest(alg, "conformance"), sig)
	}
	if err != nil {
		t.Errorf("%s: SignMessageContext(): %v", alg, err)
	}
}

func verify(pub crypto.PublicKey, alg signer.Alg, digest, sig []byte) error {
	switch pub := pub.(type) {
	case *signer.AKP:
		known, err := mldsa.NewPublicKey(mldsaParameters[pub.Alg()], pub.Bytes())
		if err != nil {
			return err
		}
		return mldsa.Verify(known, digest, sig, nil)

	case ed25519.PublicKey:
		if !ed25519.Verify(pub, digest, sig) {
			return errors.New("signature does not verify")
		}
		return nil

	case *ecdsa.PublicKey:
		var rs struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(sig, &rs); err != nil || len(rest) != 0 {
			return errors.New("signature is not ASN.1 DER")
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
			if alg.Hash() == 0 && signAlgs[kind][0].Hash() == 0 {
				continue // the same options, and the key says which algorithm
			}
			if alg.Family() == signer.FamilyPKCS1v15 && kind != RSASig {
				continue // the same options as ECDSA with that hash
			}
			if alg.Family() == signer.FamilyECDSA && kind != RSASig && alg.Hash() == signAlgs[kind][0].Hash() {
				continue // the same options on another curve
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

func (s *suite) concurrentSign(t *testing.T, kind Kind, alg signer.Alg) {
	k := s.signer(t, s.backend, kind)
	parallel(func(g, r int) {
		d := digest(alg, fmt.Sprint(g, r)) // different for each caller, so that an answer to the wrong one shows
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
