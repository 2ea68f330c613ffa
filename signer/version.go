package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// errVerify is not a sentinel: a backend that signs wrongly is a fault to be
// reported, not a condition that a caller could act upon.
var errVerify = errors.New("signature does not verify against the public key: withheld")

// A VersionConfig says what [NewVersion] makes of a key.
type VersionConfig struct {
	// KID is the key's "kid". Optional: the RFC 7638 thumbprint.
	KID string
	// Algs are the algorithms that the key may be used with: at least one, all of
	// one use. The first is the default.
	Algs []Alg
	// NotBefore is when the version becomes the active one. Optional: always was.
	NotBefore time.Time
	// SkipVerify leaves out the verification of each signature before it leaves.
	SkipVerify bool
	// Backend is the name of the backend that holds the key, for reports.
	Backend string
	// Observe is called after each use of the private key, with how long the
	// backend took. A ciphertext that does not decrypt is no error here: who sees
	// what is observed must not tell it from one that does. Optional.
	Observe func(use Use, took time.Duration, err error)
}

// A Version is one key version: one key pair in one backend, with its kid and
// the algorithms that it is pinned to. It is immutable and safe for concurrent
// use.
type Version struct {
	key       Key
	kid       string
	algs      []Alg
	notBefore time.Time
	verify    bool
	backend   string
	observe   func(use Use, took time.Duration, err error)
}

// NewVersion returns the version that c describes. Each algorithm must be one
// that key can do; the errors are ErrInvalid and ErrUnsupported.
func NewVersion(key Key, c VersionConfig) (*Version, error) {
	if len(c.Algs) == 0 {
		return nil, fmt.Errorf("%w: no algorithms", ErrInvalid)
	}
	for _, alg := range c.Algs {
		if err := checkAlg(key, alg); err != nil {
			return nil, err
		}
		if alg.Use() != c.Algs[0].Use() {
			return nil, fmt.Errorf("%w: %s and %s: a key either signs or decrypts", ErrInvalid, c.Algs[0], alg)
		}
	}
	if c.KID == "" {
		var err error
		if c.KID, err = Thumbprint(key.Public()); err != nil {
			return nil, err
		}
	}
	if c.Observe == nil {
		c.Observe = func(Use, time.Duration, error) {}
	}
	return &Version{
		key: key, kid: c.KID, algs: slices.Clone(c.Algs), notBefore: c.NotBefore,
		verify: !c.SkipVerify, backend: c.Backend, observe: c.Observe,
	}, nil
}

func checkAlg(key Key, alg Alg) error {
	if err := alg.Fits(key.Public()); err != nil {
		return err
	}
	switch alg.Use() {
	case UseSig:
		if _, ok := key.(Signer); !ok {
			return fmt.Errorf("%w: %s: the backend does not let this key sign", ErrUnsupported, alg)
		}
	case UseEnc:
		if _, ok := key.(Decrypter); !ok {
			return fmt.Errorf("%w: %s: the backend does not let this key decrypt", ErrUnsupported, alg)
		}
	}
	if l, ok := key.(AlgLister); ok && !slices.Contains(l.Algs(), alg) {
		return fmt.Errorf("%w: %s: the backend has no mechanism for it (it has %v)", ErrUnsupported, alg, l.Algs())
	}
	return nil
}

// KID returns the "kid" of v.
func (v *Version) KID() string { return v.kid }

// Use returns what v is for.
func (v *Version) Use() Use { return v.algs[0].Use() }

// Algs returns the algorithms that v is pinned to, the default first.
func (v *Version) Algs() []Alg { return slices.Clone(v.algs) }

// NotBefore returns when v becomes active; the zero time means always.
func (v *Version) NotBefore() time.Time { return v.notBefore }

// Backend returns the name of the backend that holds v.
func (v *Version) Backend() string { return v.backend }

// Alg returns the algorithm to use for a request that asks for want, or for
// none in particular if want is empty. It is ErrUnsupported to ask for an
// algorithm that the key does not list.
func (v *Version) Alg(want Alg) (Alg, error) {
	if want == "" {
		return v.algs[0], nil
	}
	if !slices.Contains(v.algs, want) {
		return "", fmt.Errorf("%w: the key does %v, not %.32q", ErrUnsupported, v.algs, string(want))
	}
	return want, nil
}

// Sign signs a digest with alg and returns the signature as JOSE has it: r || s
// for ECDSA, as long as the modulus for RSA. Unless the version was made with
// SkipVerify, a signature that the public key does not verify is an error and
// not returned.
func (v *Version) Sign(ctx context.Context, alg Alg, digest []byte) ([]byte, error) {
	if alg.Use() != UseSig {
		return nil, fmt.Errorf("%w: %.32q does not sign", ErrUnsupported, string(alg))
	}
	if _, err := v.Alg(alg); err != nil {
		return nil, err
	}
	if len(digest) != alg.Hash().Size() {
		return nil, fmt.Errorf("%w: %s signs a digest of %d bytes, not %d", ErrInvalid, alg, alg.Hash().Size(), len(digest))
	}
	s, ok := v.key.(Signer)
	if !ok {
		return nil, fmt.Errorf("%w: the key does not sign", ErrUnsupported)
	}
	start := time.Now()
	sig, err := s.SignContext(ctx, digest, alg.SignerOpts())
	v.observe(UseSig, time.Since(start), err)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	pub := v.key.Public()
	if ec, ok := pub.(*ecdsa.PublicKey); ok {
		if sig, err = RawECDSA(sig, coordinateSize(ec)); err != nil {
			return nil, err
		}
	}
	if v.verify && !VerifyDigest(pub, alg, digest, sig) {
		return nil, errVerify
	}
	return sig, nil
}

// VerifyDigest reports whether sig, in the form that JOSE has it, is a signature
// of pub on digest with alg.
func VerifyDigest(pub crypto.PublicKey, alg Alg, digest, sig []byte) bool {
	if alg.Fits(pub) != nil || len(digest) != alg.Hash().Size() {
		return false
	}
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		size := coordinateSize(pub)
		if len(sig) != 2*size {
			return false
		}
		return ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:]))
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

// Unwrap decrypts a JWE encrypted key with alg and returns the CEK, which the
// caller clears when done. A key that does not decrypt is ErrDecrypt.
func (v *Version) Unwrap(ctx context.Context, alg Alg, encryptedKey []byte) ([]byte, error) {
	if alg.Use() != UseEnc {
		return nil, fmt.Errorf("%w: %.32q does not decrypt", ErrUnsupported, string(alg))
	}
	if _, err := v.Alg(alg); err != nil {
		return nil, err
	}
	d, ok := v.key.(Decrypter)
	if !ok {
		return nil, fmt.Errorf("%w: the key does not decrypt", ErrUnsupported)
	}
	start := time.Now()
	cek, err := d.DecryptContext(ctx, encryptedKey, alg.DecrypterOpts())
	took := time.Since(start)
	if errors.Is(err, ErrDecrypt) {
		v.observe(UseEnc, took, nil) // the backend did its work; what came of it is for no metric
		return nil, ErrDecrypt       // bare, whatever a backend wrapped round it
	}
	v.observe(UseEnc, took, err)
	if err != nil {
		return nil, fmt.Errorf("unwrap: %w", err)
	}
	return cek, nil
}

// proofInput is the input of [Version.Prove]. It is no JWS signing input: no
// token could be made of the signature.
const proofInput = "signetd: proof that the private key and the public key are one pair"

// Prove uses the private key once with each algorithm and checks the result
// with the public key, so that a wrong handle, a re-pointed name or a mechanism
// that is missing shows at start and not in a request.
func (v *Version) Prove(ctx context.Context) error {
	for _, alg := range v.algs {
		var err error
		if alg.Use() == UseSig {
			err = v.proveSign(ctx, alg)
		} else {
			err = v.proveUnwrap(ctx, alg)
		}
		if err != nil {
			return fmt.Errorf("prove %s: %w", alg, err)
		}
	}
	return nil
}

func (v *Version) proveSign(ctx context.Context, alg Alg) error {
	d := digest(alg, proofInput)
	sig, err := v.Sign(ctx, alg, d)
	if err != nil {
		return err
	}
	if !VerifyDigest(v.key.Public(), alg, d, sig) { // Sign skips this with SkipVerify
		return errVerify
	}
	return nil
}

func (v *Version) proveUnwrap(ctx context.Context, alg Alg) error {
	secret := make([]byte, sha256.Size)
	rand.Read(secret)
	ct, err := encryptOAEP(v.key.Public(), alg, secret)
	if err != nil {
		return err
	}
	got, err := v.Unwrap(ctx, alg, ct)
	if err != nil {
		return err
	}
	defer clear(got)
	if subtle.ConstantTimeCompare(got, secret) != 1 {
		return errors.New("decryption gave other bytes than were encrypted")
	}
	return nil
}

func encryptOAEP(pub crypto.PublicKey, alg Alg, plaintext []byte) ([]byte, error) {
	if err := alg.Fits(pub); err != nil {
		return nil, err
	}
	key, ok := pub.(*rsa.PublicKey)
	if !ok || alg.Family() != FamilyOAEP {
		return nil, fmt.Errorf("%w: %s does not encrypt", ErrUnsupported, alg)
	}
	return rsa.EncryptOAEPWithOptions(rand.Reader, key, plaintext, alg.DecrypterOpts())
}
