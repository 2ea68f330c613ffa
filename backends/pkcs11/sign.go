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

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
	"signetd/signer/supervise"
)

// digestInfo is what precedes the digest in a PKCS #1 v1.5 signature (RFC 8017 section
// 9.2, note 1). It is added here and not by the token, because every token has
// CKM_RSA_PKCS.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// signing is a key that implements signer.MessageSigner and signer.RawSigner.
type signing struct{ *key }

var (
	_ signer.MessageSigner = signing{}
	_ signer.RawSigner     = signing{}
)

// Sign is SignContext without a deadline. The token has its own randomness.
func (s signing) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no ctx
}

// SignContext signs a digest; see [signer.Signer].
func (s signing) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	alg, err := signer.CheckDigest(s.public, digest, opts)
	if err != nil {
		return nil, err
	}
	return s.signDER(ctx, alg, digest, nil)
}

// SignMessageContext signs a message; see [signer.MessageSigner].
func (s signing) SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if message == nil {
		message = []byte{} // SignRaw takes nil for a message that is not known
	}
	digest := message
	if opts != nil && opts.HashFunc() != 0 && opts.HashFunc().Available() {
		digest = digestOf(opts.HashFunc(), message)
	}
	alg, err := signer.CheckDigest(s.public, digest, opts)
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

// SignRaw signs a digest, or its message if the token wants that; see [signer.RawSigner].
func (s signing) SignRaw(ctx context.Context, alg signer.Alg, digest, message []byte) ([]byte, error) {
	strategy, ok := s.signs[alg]
	if !ok {
		return nil, fmt.Errorf("%w: the token cannot sign %s with this key", signer.ErrUnsupported, alg)
	}
	hash := alg.Hash()
	if hash != 0 && len(digest) != hash.Size() {
		return nil, fmt.Errorf("%w: %s signs a digest of %d bytes, not %d", signer.ErrInvalid, alg, hash.Size(), len(digest))
	}

	data := digest
	if strategy == signMessage && hash != 0 {
		if message == nil {
			return nil, fmt.Errorf("%w: the token signs %s of a message, and not of its digest", signer.ErrUnsupported, alg)
		}
		data = message
	}
	if !supervise.Supervised(ctx) {
		data = bytes.Clone(data) // the token may read it after the caller has left
	}

	sig, err := s.use(ctx, func(session *session, h p11.ObjectHandle) ([]byte, error) {
		return s.sign(session, h, alg, strategy, data)
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

// sign signs data, a digest or a message, and returns the signature in the form of JOSE.
func (k *key) sign(s *session, h p11.ObjectHandle, alg signer.Alg, strategy signStrategy, data []byte) ([]byte, error) {
	mechanism, data := signMechanism(alg, strategy, data)
	sig := make([]byte, signatureSize(k.public))
	n, err := k.withPIN(func(pin []byte) (int, error) { return s.Sign(mechanism, h, pin, data, sig) })
	if err != nil {
		return nil, err
	}
	if n != len(sig) {
		return nil, fmt.Errorf("%w: pkcs11: the token made a signature of %d bytes, not %d", signer.ErrUnavailable, n, len(sig))
	}
	return sig, nil
}

// signMechanism returns the mechanism for alg, and what it signs.
func signMechanism(alg signer.Alg, strategy signStrategy, data []byte) (cryptoki.Mechanism, []byte) {
	hash := alg.Hash()
	h := cryptoki.Hashes[hash]
	digest := strategy == signDigest
	switch alg.Family() { //nolint:exhaustive // CheckDigest lets only these four through
	case signer.FamilyPKCS1v15:
		if digest {
			return cryptoki.NewMechanism(p11.CKM_RSA_PKCS), slices.Concat(digestInfo[hash], data)
		}
		return cryptoki.NewMechanism(h.PKCS1), data

	case signer.FamilyPSS:
		typ := h.PSS
		if digest {
			typ = p11.CKM_RSA_PKCS_PSS
		}
		// Tokens take any salt length; RFC 7518 section 3.5 has that of the hash.
		return cryptoki.NewMechanism(typ, h.Mechanism, h.MGF, uint(hash.Size())), data

	case signer.FamilyECDSA:
		if digest {
			return cryptoki.NewMechanism(p11.CKM_ECDSA), data
		}
		return cryptoki.NewMechanism(h.ECDSA), data

	default: // signer.FamilyEdDSA
		return cryptoki.NewMechanism(cryptoki.EdDSA), data
	}
}

// signatureSize is the length in bytes of what the token returns: r || s for ECDSA.
func signatureSize(pub crypto.PublicKey) int {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return 2 * ((pub.Params().BitSize + 7) / 8)
	case *rsa.PublicKey:
		return pub.Size()
	case ed25519.PublicKey:
		return ed25519.SignatureSize
	default:
		return 0
	}
}

// probeSigning signs once for each algorithm that fits, verifies, and notes the strategies
// that work.
func (k *key) probeSigning(p *probe) error {
	k.signs = make(map[signer.Alg]signStrategy)
	var refusals []error
	digests := make(map[signer.Family]bool) // whether the token signs digests, if it was asked
	for _, alg := range signer.Algs(k.public) {
		if alg.Use() != signer.UseSig {
			continue
		}

		// Digests come first: more tokens sign them, and one mechanism does so for every
		// hash, which need not be tried again.
		family, err := alg.Family(), error(nil)
		works, asked := digests[family]
		if !asked && alg.Hash() != 0 {
			err = k.probeAlg(p, alg, signDigest)
			works, digests[family] = err == nil, err == nil
		}
		strategy := signDigest
		if !works && (err == nil || lacks(err)) {
			refusal := err
			if strategy, err = signMessage, k.probeAlg(p, alg, signMessage); lacks(err) {
				err = errors.Join(refusal, err)
			}
		}

		switch {
		case err == nil:
			k.signs[alg] = strategy
			k.algs = append(k.algs, alg)
		case lacks(err):
			refusals = append(refusals, fmt.Errorf("sign %s: %w", alg, err))
		default:
			return fmt.Errorf("sign %s: %w", alg, err)
		}
	}
	if len(k.signs) == 0 {
		return errors.Join(refusals...)
	}
	return nil
}

// probeAlg signs with one strategy and verifies.
func (k *key) probeAlg(p *probe, alg signer.Alg, strategy signStrategy) error {
	digest := []byte(probeMessage)
	if alg.Hash() != 0 {
		digest = digestOf(alg.Hash(), digest)
	}
	data := digest
	if strategy == signMessage {
		data = []byte(probeMessage)
	}

	return p.run(func(s *session, h p11.ObjectHandle) error {
		sig, err := k.sign(s, h, alg, strategy, data)
		if err == nil && !signer.VerifyDigest(k.public, alg, digest, sig) {
			return fmt.Errorf("%w: the signature does not verify: the public half belongs to another key", signer.ErrInvalid)
		}
		return err
	})
}
