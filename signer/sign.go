package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
)

// ErrVerify means that a backend made a signature that its public key does not verify, or
// something that is no signature at all. A backend that looks for itself wraps it, so that
// the place counts as away and the request goes on to the next one. It has no code of its
// own: that every place signs wrongly is a fault to be reported, and not a condition that a
// caller could act upon.
var ErrVerify = errors.New("the signature does not verify against the public key: withheld")

// Sign signs a digest with alg and returns the signature in the form of JOSE: r || s for
// ECDSA, as long as the modulus for RSA, 64 bytes for Ed25519. For Ed25519 and ML-DSA
// digest is the message itself. HMAC has no digest that could be signed: use
// [Version.SignMessage].
//
// Unless the version was made with SkipVerify, a signature that the public key does not
// verify is an error and is not returned.
func (v *Version) Sign(ctx context.Context, alg Alg, digest []byte) ([]byte, error) {
	if err := v.signs(alg); err != nil {
		return nil, err
	}
	if h := alg.Hash(); h != 0 && len(digest) != h.Size() {
		return nil, fmt.Errorf("%w: %s signs a digest of %d bytes, not %d", ErrInvalid, alg, h.Size(), len(digest))
	}
	return v.sign(ctx, alg, digest, nil)
}

// SignMessage signs message with alg, or makes its MAC. It returns the signature as
// [Version.Sign] does, and a MAC as long as its hash.
func (v *Version) SignMessage(ctx context.Context, alg Alg, message []byte) ([]byte, error) {
	if alg.Family() == FamilyHMAC {
		return v.mac(ctx, alg, message)
	}
	return v.signMessage(ctx, alg, alg.digest(message), message)
}

// signMessage signs a message whose digest is known.
func (v *Version) signMessage(ctx context.Context, alg Alg, digest, message []byte) ([]byte, error) {
	if err := v.signs(alg); err != nil {
		return nil, err
	}
	if message == nil {
		message = []byte{} // it is known, and empty
	}
	return v.sign(ctx, alg, digest, message)
}

// signs reports why v does not sign a digest with alg.
func (v *Version) signs(alg Alg) error {
	if alg.Use() != UseSig {
		return fmt.Errorf("%w: %.32q does not sign", ErrUnsupported, string(alg))
	}
	if _, err := v.Alg(alg); err != nil {
		return err
	}
	if alg.Family() == FamilyHMAC {
		return fmt.Errorf("%w: %s does not sign a digest", ErrUnsupported, alg)
	}
	return nil
}

// sign signs digest, which is that of message unless message is nil. Each place verifies
// its own signature, so that a place that signs wrongly is taken out of rotation.
func (v *Version) sign(ctx context.Context, alg Alg, digest, message []byte) ([]byte, error) {
	sig, err := on(ctx, v, UseSig, func(ctx context.Context, s Signer) ([]byte, error) {
		return signRaw(ctx, s, v.public, alg, digest, message)
	}, func(sig []byte) error {
		if v.verify && !v.verifyOwn(alg, digest, sig) {
			return ErrVerify
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, nil
}

// verifyOwn is [VerifyDigest] for v's own public key.
func (v *Version) verifyOwn(alg Alg, digest, sig []byte) bool {
	if alg == ES256 && v.es256 != nil {
		return v.es256(digest, sig)
	}
	return VerifyDigest(v.public, alg, digest, sig)
}

// signRaw has s sign as [Version.sign] does, through the interface that fits s best.
func signRaw(ctx context.Context, s Signer, pub crypto.PublicKey, alg Alg, digest, message []byte) (sig []byte, err error) {
	ec, isEC := pub.(*ecdsa.PublicKey)
	if r, ok := s.(RawSigner); ok {
		sig, err = r.SignRaw(ctx, alg, digest, message)
		if err == nil && isEC && len(sig) != 2*coordinateSize(ec) {
			return nil, ErrVerify
		}
		return sig, err
	}

	if m, ok := s.(MessageSigner); ok && message != nil {
		sig, err = m.SignMessageContext(ctx, message, alg.SignerOpts())
	} else {
		sig, err = s.SignContext(ctx, digest, alg.SignerOpts())
	}
	if err != nil || !isEC {
		return sig, err
	}
	raw, err := RawECDSA(sig, coordinateSize(ec))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVerify, err)
	}
	return raw, nil
}

// coordinateSize is the length of r and of s in bytes: 32, 48 or 66.
func coordinateSize(pub *ecdsa.PublicKey) int {
	return (pub.Curve.Params().BitSize + 7) / 8
}

// mac makes a MAC. No public key could verify it before it leaves, so only its length is
// checked.
func (v *Version) mac(ctx context.Context, alg Alg, message []byte) ([]byte, error) {
	if _, err := v.Alg(alg); err != nil {
		return nil, err
	}

	mac, err := on(ctx, v, UseSig, func(ctx context.Context, m MACer) ([]byte, error) {
		return m.MACContext(ctx, message, alg.Hash())
	}, func(mac []byte) error {
		if len(mac) != alg.Hash().Size() {
			return ErrVerify
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("mac: %w", err)
	}
	return mac, nil
}

// Verify reports whether sig, in the form of JOSE, is v's signature or MAC of message with
// alg. Only for a MAC does it use the key, and may fail. An alg that v is not pinned to is
// ErrUnsupported.
func (v *Version) Verify(ctx context.Context, alg Alg, message, sig []byte) (bool, error) {
	if alg.Use() != UseSig {
		return false, fmt.Errorf("%w: %.32q does not sign", ErrUnsupported, string(alg))
	}
	if _, err := v.Alg(alg); err != nil {
		return false, err
	}
	if err := v.seen(); err != nil {
		return false, err
	}

	if alg.Family() != FamilyHMAC {
		return VerifyMessage(v.public, alg, message, sig), nil
	}
	want, err := v.mac(ctx, alg, message)
	if err != nil {
		return false, err
	}
	return hmac.Equal(want, sig), nil
}

// VerifyMessage reports whether sig, in the form of JOSE, is a signature of pub on message
// with alg.
func VerifyMessage(pub crypto.PublicKey, alg Alg, message, sig []byte) bool {
	return VerifyDigest(pub, alg, alg.digest(message), sig)
}

// VerifyDigest reports whether sig, in the form of JOSE, is a signature of pub on digest
// with alg. For Ed25519 and ML-DSA digest is the message itself. It is false for a key that
// this build cannot verify with: see [CanVerify].
func VerifyDigest(pub crypto.PublicKey, alg Alg, digest, sig []byte) bool {
	if alg.Use() != UseSig || alg.Fits(pub) != nil {
		return false
	}
	if h := alg.Hash(); h != 0 && len(digest) != h.Size() {
		return false
	}

	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return verifyECDSA(pub, digest, sig)
	case ed25519.PublicKey:
		return ed25519.Verify(pub, digest, sig)
	case *AKP:
		return pub.verify != nil && pub.verify(digest, sig)
	case *rsa.PublicKey:
		if alg.Family() == FamilyPSS {
			opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
			return rsa.VerifyPSS(pub, alg.Hash(), digest, sig, opts) == nil
		}
		return rsa.VerifyPKCS1v15(pub, alg.Hash(), digest, sig) == nil
	default:
		return false
	}
}

// digest returns what a key signs of message: its hash, or all of it for Ed25519 and
// ML-DSA.
func (a Alg) digest(message []byte) []byte {
	hash := a.Hash()
	if hash == 0 {
		return message
	}
	return appendHash(make([]byte, 0, hash.Size()), hash, message)
}

// appendHash appends the hash of message to b.
func appendHash(b []byte, hash crypto.Hash, message []byte) []byte {
	if hash == crypto.SHA256 { // needs no allocation, unlike the others
		sum := sha256.Sum256(message)
		return append(b, sum[:]...)
	}
	h := hash.New()
	h.Write(message)
	return h.Sum(b)
}
