//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
	"signetd/signer/supervise"
)

// digestInfo is what precedes the digest in a PKCS #1 v1.5 signature (RFC 8017
// section 9.2, note 1). It is made here, and not by the token, since every
// token has CKM_RSA_PKCS.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// A tokenHash is a hash in the words of PKCS#11: by itself, as the mask of PSS and
// OAEP, and within the mechanisms that hash the message.
type tokenHash struct{ mechanism, mgf, pkcs1, pss, ecdsa, hmac uint }

var tokenHashes = map[crypto.Hash]tokenHash{
	crypto.SHA1:   {mechanism: p11.CKM_SHA_1, mgf: p11.CKG_MGF1_SHA1}, // for OAEP alone
	crypto.SHA256: {p11.CKM_SHA256, p11.CKG_MGF1_SHA256, p11.CKM_SHA256_RSA_PKCS, p11.CKM_SHA256_RSA_PKCS_PSS, p11.CKM_ECDSA_SHA256, p11.CKM_SHA256_HMAC},
	crypto.SHA384: {p11.CKM_SHA384, p11.CKG_MGF1_SHA384, p11.CKM_SHA384_RSA_PKCS, p11.CKM_SHA384_RSA_PKCS_PSS, p11.CKM_ECDSA_SHA384, p11.CKM_SHA384_HMAC},
	crypto.SHA512: {p11.CKM_SHA512, p11.CKG_MGF1_SHA512, p11.CKM_SHA512_RSA_PKCS, p11.CKM_SHA512_RSA_PKCS_PSS, p11.CKM_ECDSA_SHA512, p11.CKM_SHA512_HMAC},
}

// ckmEdDSA is CKM_EDDSA of PKCS#11 v3.0 section 2.3.14, for which the binding has
// no name. Without a parameter and with a key on Ed25519 it is pure Ed25519.
const ckmEdDSA = 0x1057

// A form is what a token signs with one algorithm.
type form int

const (
	ofDigest  form = iota + 1 // made here
	ofMessage                 // the token makes the digest, or there is none
)

// signing is the half of a key that implements signer.MessageSigner and
// signer.RawSigner.
type signing struct{ k *key }

// Sign is SignContext without a deadline. The token has its own randomness.
func (s signing) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no ctx
}

// SignContext signs a digest; see [signer.Signer].
func (s signing) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	alg, err := signer.CheckDigest(s.k.public, digest, opts)
	if err != nil {
		return nil, err
	}
	return s.signDER(ctx, alg, digest, nil)
}

// SignMessageContext signs a message; see [signer.MessageSigner].
func (s signing) SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if message == nil {
		message = []byte{} // it is known, and empty
	}
	digest := message
	if opts != nil && opts.HashFunc() != 0 && opts.HashFunc().Available() {
		digest = digestOf(opts.HashFunc(), message)
	}
	alg, err := signer.CheckDigest(s.k.public, digest, opts)
	if err != nil {
		return nil, err
	}
	return s.signDER(ctx, alg, digest, message)
}

// signDER is SignRaw in the form that crypto.Signer promises.
func (s signing) signDER(ctx context.Context, alg signer.Alg, digest, message []byte) ([]byte, error) {
	sig, err := s.SignRaw(ctx, alg, digest, message)
	if err != nil || alg.Family() != signer.FamilyECDSA {
		return sig, err
	}
	return signer.DERECDSA(sig)
}

// SignRaw signs a digest, or its message if the token wants that; see
// [signer.RawSigner].
func (s signing) SignRaw(ctx context.Context, alg signer.Alg, digest, message []byte) ([]byte, error) {
	f, ok := s.k.forms[alg]
	if !ok {
		return nil, fmt.Errorf("%w: the token cannot sign %s with this key", signer.ErrUnsupported, alg)
	}
	hash := alg.Hash()
	if hash != 0 && len(digest) != hash.Size() {
		return nil, fmt.Errorf("%w: %s signs a digest of %d bytes, not %d", signer.ErrInvalid, alg, hash.Size(), len(digest))
	}
	data := digest
	if f == ofMessage && hash != 0 {
		if message == nil {
			return nil, fmt.Errorf("%w: the token signs %s of a message, and not of its digest", signer.ErrUnsupported, alg)
		}
		data = message
	}
	return s.k.signData(ctx, alg, f, data)
}

func digestOf(hash crypto.Hash, message []byte) []byte {
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}

// signData signs data, which has the form f.
func (k *key) signData(ctx context.Context, alg signer.Alg, f form, data []byte) ([]byte, error) {
	if !supervise.Supervised(ctx) {
		data = bytes.Clone(data) // the token may read it after the caller has left
	}
	sig, err := k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return k.sign(s, h, alg, f, data)
	})
	if err != nil || alg.Family() != signer.FamilyECDSA {
		return sig, err
	}
	if r, s := sig[:len(sig)/2], sig[len(sig)/2:]; isZero(r) || isZero(s) {
		return nil, fmt.Errorf("%w: pkcs11: the token's answer: an ECDSA signature whose r or s is zero", signer.ErrUnavailable)
	}
	return sig, nil
}

func isZero(n []byte) bool {
	return !slices.ContainsFunc(n, func(b byte) bool { return b != 0 })
}

// sign signs data and returns the signature as JOSE has it.
func (k *key) sign(s *session, h p11.ObjectHandle, alg signer.Alg, f form, data []byte) ([]byte, error) {
	mechanism, data := signMechanism(alg, f, data)
	sig := make([]byte, signatureSize(k.public))
	n, err := k.withPIN(func(pin []byte) (int, error) { return s.sign(mechanism, h, pin, data, sig) })
	if err != nil {
		return nil, err
	}
	if n != len(sig) {
		return nil, fmt.Errorf("%w: pkcs11: the token made a signature of %d bytes, not %d", signer.ErrUnavailable, n, len(sig))
	}
	return sig, nil
}

// signMechanism returns the mechanism for alg and what it signs.
func signMechanism(alg signer.Alg, f form, data []byte) (mechanism, []byte) {
	hash := alg.Hash()
	h := tokenHashes[hash]
	digest := f == ofDigest
	switch alg.Family() { //nolint:exhaustive // CheckDigest lets only these four through
	case signer.FamilyPKCS1v15:
		if digest {
			return mechanism{typ: p11.CKM_RSA_PKCS}, slices.Concat(digestInfo[hash], data)
		}
		return mechanism{typ: h.pkcs1}, data
	case signer.FamilyPSS:
		// Tokens take any salt length, so it is given: that of the hash.
		m := mechanism{h.pss, [5]uint{h.mechanism, h.mgf, uint(hash.Size())}, 3}
		if digest {
			m.typ = p11.CKM_RSA_PKCS_PSS
		}
		return m, data
	case signer.FamilyECDSA:
		if digest {
			return mechanism{typ: p11.CKM_ECDSA}, data
		}
		return mechanism{typ: h.ecdsa}, data
	default: // signer.FamilyEdDSA
		return mechanism{typ: ckmEdDSA}, data
	}
}

// signatureSize is the length of what the token returns: r || s for ECDSA.
func signatureSize(pub crypto.PublicKey) int {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return 2 * coordinateSize(pub.Curve)
	case *rsa.PublicKey:
		return pub.Size()
	case ed25519.PublicKey:
		return ed25519.SignatureSize
	default:
		return 0
	}
}

// proofMessage is what a key signs when it is opened. It can be no JWS signing
// input (RFC 7515 section 5.1): those have no spaces.
const proofMessage = "signetd signs this to see that the two halves of the key belong together"

// proveSigning signs once for each algorithm that fits, verifies, and notes those
// that the token has. The form that takes a digest comes first: more tokens have
// it, and it is the same for every hash.
func (k *key) proveSigning(t *trial) error {
	k.forms = make(map[signer.Alg]form)
	var refusals []error
	digests := make(map[signer.Family]bool) // whether the token signs them, if it was asked
	for _, alg := range signer.Algs(k.public) {
		if alg.Use() != signer.UseSig {
			continue
		}
		family, err := alg.Family(), error(nil)
		works, asked := digests[family]
		if !asked && alg.Hash() != 0 {
			err = k.proveAlg(t, alg, ofDigest)
			works, digests[family] = err == nil, err == nil
		}
		f := ofDigest
		if !works && (err == nil || lacks(err)) {
			refusal := err
			if f, err = ofMessage, k.proveAlg(t, alg, ofMessage); lacks(err) {
				err = errors.Join(refusal, err)
			}
		}
		switch {
		case err == nil:
			k.forms[alg] = f
			k.algs = append(k.algs, alg)
		case lacks(err):
			refusals = append(refusals, fmt.Errorf("sign %s: %w", alg, err))
		default:
			return fmt.Errorf("sign %s: %w", alg, err)
		}
	}
	if len(k.forms) == 0 {
		return errors.Join(refusals...)
	}
	return nil
}

// proveAlg signs in one form and verifies.
func (k *key) proveAlg(t *trial, alg signer.Alg, f form) error {
	digest := []byte(proofMessage)
	if alg.Hash() != 0 {
		digest = digestOf(alg.Hash(), digest)
	}
	data := digest
	if f == ofMessage {
		data = []byte(proofMessage)
	}
	return t.run(func(s *session, h p11.ObjectHandle) error {
		sig, err := k.sign(s, h, alg, f, data)
		if err == nil && !signer.VerifyDigest(k.public, alg, digest, sig) {
			return fmt.Errorf("%w: the signature does not verify: the public half belongs to another key", signer.ErrInvalid)
		}
		return err
	})
}
