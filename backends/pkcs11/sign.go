//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// digestInfo is what precedes the digest in a PKCS #1 v1.5 signature (RFC 8017
// section 9.2, note 1). It is made here, and not by the token, since every
// token has CKM_RSA_PKCS.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// A tokenHash is a hash in the words of PKCS#11.
type tokenHash struct{ mechanism, mgf uint }

var tokenHashes = map[crypto.Hash]tokenHash{
	crypto.SHA1:   {p11.CKM_SHA_1, p11.CKG_MGF1_SHA1},
	crypto.SHA256: {p11.CKM_SHA256, p11.CKG_MGF1_SHA256},
	crypto.SHA384: {p11.CKM_SHA384, p11.CKG_MGF1_SHA384},
	crypto.SHA512: {p11.CKM_SHA512, p11.CKG_MGF1_SHA512},
}

// signing is the half of a key that implements signer.Signer.
type signing struct{ k *key }

// Sign is SignContext without a deadline. The token has its own randomness.
func (s signing) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no ctx
}

// SignContext signs a digest; see [signer.Signer].
func (s signing) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k := s.k
	alg, err := signer.CheckDigest(k.public, digest, opts)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(k.algs, alg) {
		return nil, fmt.Errorf("%w: the token cannot sign %s with this key", signer.ErrUnsupported, alg)
	}
	digest = bytes.Clone(digest) // the token may read it after the caller has left
	return k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return k.signDigest(s, h, alg, digest)
	})
}

// signDigest signs a digest of the right length for alg.
func (k *key) signDigest(s *session, h p11.ObjectHandle, alg signer.Alg, digest []byte) ([]byte, error) {
	mechanism, data := signMechanism(alg, digest)
	sig := make([]byte, signatureSize(k.public))
	n, err := k.withPIN(func(pin []byte) (int, error) { return s.sign(mechanism, h, pin, data, sig) })
	if err != nil {
		return nil, err
	}
	if n != len(sig) {
		return nil, fmt.Errorf("%w: pkcs11: the token made a signature of %d bytes, not %d", signer.ErrUnavailable, n, len(sig))
	}
	if alg.Family() != signer.FamilyECDSA {
		return sig, nil
	}
	der, err := signer.DERECDSA(sig)
	if err != nil {
		return nil, fmt.Errorf("%w: pkcs11: the token's answer: %w", signer.ErrUnavailable, err)
	}
	return der, nil
}

// signMechanism returns the mechanism for alg and what it signs. The forms that
// take a digest are chosen over those that take a message: more tokens have
// them.
func signMechanism(alg signer.Alg, digest []byte) (mechanism, []byte) {
	hash := alg.Hash()
	switch alg.Family() { //nolint:exhaustive // CheckDigest lets only these three through
	case signer.FamilyPKCS1v15:
		return mechanism{typ: p11.CKM_RSA_PKCS}, slices.Concat(digestInfo[hash], digest)
	case signer.FamilyPSS:
		// Tokens take any salt length, so it is given: that of the hash.
		h := tokenHashes[hash]
		return mechanism{p11.CKM_RSA_PKCS_PSS, [5]uint{h.mechanism, h.mgf, uint(hash.Size())}, 3}, digest
	default: // signer.FamilyECDSA
		return mechanism{typ: p11.CKM_ECDSA}, digest
	}
}

// signatureSize is the length of what the token returns: r || s for ECDSA.
func signatureSize(pub crypto.PublicKey) int {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return 2 * ((pub.Curve.Params().BitSize + 7) / 8)
	case *rsa.PublicKey:
		return pub.Size()
	default:
		return 0
	}
}

// proofMessage is what a key signs when it is opened. It can be no JWS signing
// input (RFC 7515 section 5.1): those have no spaces.
const proofMessage = "signetd signs this to see that the two halves of the key belong together"

// proveSigning signs once for each family of algorithms that fits, verifies,
// and adds to k.algs the families that the token has.
func (k *key) proveSigning(s *session, h p11.ObjectHandle) error {
	var refusals []error
	works := make(map[signer.Family]bool)
	for _, alg := range signer.Algs(k.public) {
		family := alg.Family()
		if alg.Use() != signer.UseSig {
			continue
		}
		if _, tried := works[family]; !tried {
			err := k.proveAlg(s, h, alg)
			if err != nil && (lost(err) || !errors.Is(err, signer.ErrUnsupported)) {
				return fmt.Errorf("sign %s: %w", alg, err)
			}
			if works[family] = err == nil; err != nil {
				refusals = append(refusals, fmt.Errorf("sign %s: %w", alg, err))
			}
		}
		if works[family] {
			k.algs = append(k.algs, alg)
		}
	}
	if len(k.algs) == 0 {
		return errors.Join(refusals...)
	}
	return nil
}

func (k *key) proveAlg(s *session, h p11.ObjectHandle, alg signer.Alg) error {
	hash := alg.Hash().New()
	hash.Write([]byte(proofMessage))
	digest := hash.Sum(nil)
	sig, err := k.signDigest(s, h, alg, digest)
	if err != nil {
		return err
	}
	if !verifies(k.public, alg, digest, sig) {
		return fmt.Errorf("%w: the signature does not verify: the public half belongs to another key", signer.ErrInvalid)
	}
	return nil
}

func verifies(pub crypto.PublicKey, alg signer.Alg, digest, sig []byte) bool {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, digest, sig)
	case *rsa.PublicKey:
		if alg.Family() == signer.FamilyPSS {
			return rsa.VerifyPSS(pub, alg.Hash(), digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(pub, alg.Hash(), digest, sig) == nil
	default:
		return false
	}
}
