package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha1"   // #nosec G505 -- RSA-OAEP is defined with SHA-1 (RFC 7518 section 4.3)
	_ "crypto/sha256" // registers SHA-256 with package crypto
	_ "crypto/sha512" // registers SHA-384 and SHA-512 with package crypto
	"fmt"
)

// An Alg is a JOSE "alg": how a key signs or unwraps (RFC 7518 sections 3.1 and
// 4.1, RFC 8037 section 3.1, RFC 8812 section 3.2, RFC 9864 section 2.2, RFC 9964
// section 4, and the IANA registry for RSA-OAEP-384 and -512).
type Alg string

// The algorithms that this package knows. There is no "none".
const (
	RS256 Alg = "RS256"
	RS384 Alg = "RS384"
	RS512 Alg = "RS512"
	PS256 Alg = "PS256"
	PS384 Alg = "PS384"
	PS512 Alg = "PS512"
	ES256 Alg = "ES256"
	ES384 Alg = "ES384"
	ES512 Alg = "ES512"

	ES256K  Alg = "ES256K"
	EdDSA   Alg = "EdDSA"   // with Ed25519, the only curve of it here
	Ed25519 Alg = "Ed25519" // the same signature under its newer name

	MLDSA44 Alg = "ML-DSA-44"
	MLDSA65 Alg = "ML-DSA-65"
	MLDSA87 Alg = "ML-DSA-87"

	HS256 Alg = "HS256"
	HS384 Alg = "HS384"
	HS512 Alg = "HS512"

	// RSA15 is RSAES-PKCS1-v1_5, only for old senders: a key is used with it only if its
	// config says so, signetd does not encrypt with it, and wrong padding gives a random
	// key and no error (RFC 7516 section 11.5).
	RSA15 Alg = "RSA1_5"

	RSAOAEP    Alg = "RSA-OAEP"
	RSAOAEP256 Alg = "RSA-OAEP-256"
	RSAOAEP384 Alg = "RSA-OAEP-384"
	RSAOAEP512 Alg = "RSA-OAEP-512"

	ECDHES       Alg = "ECDH-ES"
	ECDHESA128KW Alg = "ECDH-ES+A128KW"
	ECDHESA192KW Alg = "ECDH-ES+A192KW"
	ECDHESA256KW Alg = "ECDH-ES+A256KW"

	A128KW    Alg = "A128KW"
	A192KW    Alg = "A192KW"
	A256KW    Alg = "A256KW"
	A128GCMKW Alg = "A128GCMKW"
	A192GCMKW Alg = "A192GCMKW"
	A256GCMKW Alg = "A256GCMKW"
	Dir       Alg = "dir"
)

// A Use says what a key is for (RFC 7517 section 4.2). A key has one use.
type Use string

// The two uses of a key.
const (
	UseSig Use = "sig"
	UseEnc Use = "enc"
)

// A Family is the signature or encryption scheme behind an [Alg].
type Family int

// The families of algorithms.
const (
	FamilyPKCS1v15 Family = iota + 1 // RSASSA-PKCS1-v1_5, RFC 8017 section 8.2
	FamilyPSS                        // RSASSA-PSS with a salt as long as the hash, RFC 8017 section 8.1
	FamilyECDSA                      // ECDSA on the curve that the alg names, RFC 7518 section 3.4
	FamilyOAEP                       // RSAES-OAEP with an empty label, RFC 8017 section 7.1
	FamilyEdDSA                      // Ed25519 without a context, RFC 8032 section 5.1
	FamilyHMAC                       // HMAC, RFC 7518 section 3.2
	FamilyECDH                       // ECDH-ES with the Concat KDF, RFC 7518 section 4.6
	FamilyAESKW                      // AES key wrap, RFC 7518 section 4.4
	FamilyGCMKW                      // AES-GCM key encryption, RFC 7518 section 4.7
	FamilyDir                        // the shared key is the CEK, RFC 7518 section 4.5
	FamilyMLDSA                      // ML-DSA without a context, FIPS 204
	FamilyRSA15                      // RSAES-PKCS1-v1_5, RFC 8017 section 7.2
)

// families has what the algorithms of a family have in common.
var families = [...]struct {
	use       Use
	symmetric bool
	needs     string // the key that it takes
}{
	FamilyPKCS1v15: {UseSig, false, "an RSA key"},
	FamilyPSS:      {UseSig, false, "an RSA key"},
	FamilyECDSA:    {UseSig, false, "a key on "}, // and the curve of the algorithm
	FamilyOAEP:     {UseEnc, false, "an RSA key"},
	FamilyEdDSA:    {UseSig, false, "a key on Ed25519"},
	FamilyHMAC:     {UseSig, true, "a secret for HMAC"},
	FamilyECDH:     {UseEnc, false, "a key on P-256, P-384 or P-521"},
	FamilyAESKW:    {UseEnc, true, "an AES key"},
	FamilyGCMKW:    {UseEnc, true, "an AES key"},
	FamilyDir:      {UseEnc, true, "an AES key"},
	FamilyMLDSA:    {UseSig, false, "a key for it"},
	FamilyRSA15:    {UseEnc, false, "an RSA key"},
}

// MinRSABits is the size below which RSA keys are refused (RFC 7518 sections
// 3.3 and 4.2).
const MinRSABits = 2048

// MaxRSABits is the size above which RSA keys are refused. The time of an
// operation grows with the square of it, and a public key may come in a request.
const MaxRSABits = 16384

// An algorithm is all that this package knows of an Alg.
type algorithm struct {
	alg    Alg
	family Family
	hash   crypto.Hash
	curve  elliptic.Curve
	size   int // of the AES key in bytes: of the secret, or with ECDH of the derived key
}

var algorithms = []algorithm{
	{alg: RS256, family: FamilyPKCS1v15, hash: crypto.SHA256},
	{alg: RS384, family: FamilyPKCS1v15, hash: crypto.SHA384},
	{alg: RS512, family: FamilyPKCS1v15, hash: crypto.SHA512},
	{alg: PS256, family: FamilyPSS, hash: crypto.SHA256},
	{alg: PS384, family: FamilyPSS, hash: crypto.SHA384},
	{alg: PS512, family: FamilyPSS, hash: crypto.SHA512},
	{alg: ES256, family: FamilyECDSA, hash: crypto.SHA256, curve: elliptic.P256()},
	{alg: ES384, family: FamilyECDSA, hash: crypto.SHA384, curve: elliptic.P384()},
	{alg: ES512, family: FamilyECDSA, hash: crypto.SHA512, curve: elliptic.P521()},
	{alg: ES256K, family: FamilyECDSA, hash: crypto.SHA256, curve: Secp256k1()},
	{alg: EdDSA, family: FamilyEdDSA},
	{alg: Ed25519, family: FamilyEdDSA},
	{alg: MLDSA44, family: FamilyMLDSA},
	{alg: MLDSA65, family: FamilyMLDSA},
	{alg: MLDSA87, family: FamilyMLDSA},
	{alg: HS256, family: FamilyHMAC, hash: crypto.SHA256},
	{alg: HS384, family: FamilyHMAC, hash: crypto.SHA384},
	{alg: HS512, family: FamilyHMAC, hash: crypto.SHA512},
	{alg: RSAOAEP, family: FamilyOAEP, hash: crypto.SHA1},
	{alg: RSAOAEP256, family: FamilyOAEP, hash: crypto.SHA256},
	{alg: RSAOAEP384, family: FamilyOAEP, hash: crypto.SHA384},
	{alg: RSAOAEP512, family: FamilyOAEP, hash: crypto.SHA512},
	{alg: ECDHES, family: FamilyECDH},
	{alg: ECDHESA128KW, family: FamilyECDH, size: 16},
	{alg: ECDHESA192KW, family: FamilyECDH, size: 24},
	{alg: ECDHESA256KW, family: FamilyECDH, size: 32},
	{alg: A128KW, family: FamilyAESKW, size: 16},
	{alg: A192KW, family: FamilyAESKW, size: 24},
	{alg: A256KW, family: FamilyAESKW, size: 32},
	{alg: A128GCMKW, family: FamilyGCMKW, size: 16},
	{alg: A192GCMKW, family: FamilyGCMKW, size: 24},
	{alg: A256GCMKW, family: FamilyGCMKW, size: 32},
	{alg: Dir, family: FamilyDir},
	{alg: RSA15, family: FamilyRSA15},
}

// Family returns the scheme of a, or 0 if a is not known.
func (a Alg) Family() Family {
	x, _ := a.lookup()
	return x.family
}

// Hash returns the hash of a, or 0 if a has none or is not known.
func (a Alg) Hash() crypto.Hash {
	x, _ := a.lookup()
	return x.hash
}

// Use returns what keys with a are for, or "" if a is not known.
func (a Alg) Use() Use { return families[a.Family()].use }

// Symmetric reports whether a is for a secret that both sides hold.
func (a Alg) Symmetric() bool { return families[a.Family()].symmetric }

// Fits returns ErrUnsupported if a cannot be used with pub, the public half of a
// key or its [Secret]: the wrong type of key, another curve, an RSA key shorter
// than [MinRSABits] or longer than [MaxRSABits], a secret of another size or, for
// HMAC, of fewer bytes than the hash (RFC 7518 section 3.2).
func (a Alg) Fits(pub crypto.PublicKey) error {
	x, ok := a.lookup()
	if !ok {
		return fmt.Errorf("%w: unknown algorithm %.32q", ErrUnsupported, string(a))
	}

	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return x.fitsRSA(pub)
	case *ecdsa.PublicKey:
		if x.family == FamilyECDSA && x.curve == pub.Curve || x.family == FamilyECDH && !isK1(pub) {
			return nil
		}
		return x.misfit("one on " + pub.Curve.Params().Name)
	case ed25519.PublicKey:
		if x.family != FamilyEdDSA || len(pub) != ed25519.PublicKeySize {
			return x.misfit("one on Ed25519")
		}
		return nil
	case *AKP:
		if x.alg != pub.alg {
			return x.misfit("one for " + string(pub.alg))
		}
		return nil
	case Secret:
		return x.fitsSecret(pub)
	default:
		return fmt.Errorf("%w: no algorithm for a key of type %T", ErrUnsupported, pub)
	}
}

func (x *algorithm) fitsRSA(pub *rsa.PublicKey) error {
	switch x.family { //nolint:exhaustive // the others do not take RSA keys
	case FamilyPKCS1v15, FamilyPSS, FamilyOAEP, FamilyRSA15:
	default:
		return x.misfit("an RSA key")
	}
	if bits := pub.N.BitLen(); bits < MinRSABits {
		return fmt.Errorf("%w: %s needs an RSA key of %d bits or more, not %d", ErrUnsupported, x.alg, MinRSABits, bits)
	} else if bits > MaxRSABits {
		return fmt.Errorf("%w: %s takes an RSA key of %d bits at most, not %d", ErrUnsupported, x.alg, MaxRSABits, bits)
	}
	return nil
}

func (x *algorithm) fitsSecret(key Secret) error {
	switch {
	case key.Type == SecretHMAC && x.family == FamilyHMAC:
		if key.Size < x.hash.Size() {
			return fmt.Errorf("%w: %s needs a secret of %d bytes or more, not %d", ErrUnsupported, x.alg, x.hash.Size(), key.Size)
		}
		return nil

	case key.Type == SecretAES && x.family == FamilyDir:
		if key.Size != 16 && key.Size != 24 && key.Size != 32 {
			return fmt.Errorf("%w: %s needs an AES key, not one of %d bytes", ErrUnsupported, x.alg, key.Size)
		}
		return nil

	case key.Type == SecretAES && (x.family == FamilyAESKW || x.family == FamilyGCMKW):
		if key.Size != x.size {
			return fmt.Errorf("%w: %s needs an AES key of %d bytes, not %d", ErrUnsupported, x.alg, x.size, key.Size)
		}
		return nil
	default:
		return x.misfit("a secret of type " + string(key.Type))
	}
}

// misfit says which key x needs, and which one it got.
func (x *algorithm) misfit(got string) error {
	needs := families[x.family].needs
	if x.family == FamilyECDSA {
		needs += x.curve.Params().Name
	}
	return fmt.Errorf("%w: %s needs %s, not %s", ErrUnsupported, x.alg, needs, got)
}

// Known returns all algorithms that this package knows, those that sign first.
func Known() []Alg {
	var algs []Alg
	for _, x := range algorithms {
		algs = append(algs, x.alg)
	}
	return algs
}

// Algs returns the algorithms that fit pub, those that sign first. RSA1_5 is not among them:
// a key is used with it only if its config says so.
func Algs(pub crypto.PublicKey) []Alg {
	var algs []Alg
	for _, x := range algorithms {
		if x.alg != RSA15 && x.alg.Fits(pub) == nil {
			algs = append(algs, x.alg)
		}
	}
	return algs
}

// SignerOpts returns what to pass to [Signer.SignContext] for a.
func (a Alg) SignerOpts() crypto.SignerOpts {
	x, _ := a.lookup()
	if x.family == FamilyPSS {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: x.hash}
	}
	return x.hash
}

// DecrypterOpts returns what to pass to [Decrypter.DecryptContext] for a.
func (a Alg) DecrypterOpts() *rsa.OAEPOptions {
	return &rsa.OAEPOptions{Hash: a.Hash()}
}

// A scheme is what the options of [crypto.Signer] and [crypto.Decrypter] name.
type scheme struct {
	family Family
	hash   crypto.Hash
}

// The algorithms by name, and by scheme in the order of the list. Each request looks several
// of them up.
var byName, byScheme = index()

func index() (map[Alg]*algorithm, map[scheme][]*algorithm) {
	names, schemes := map[Alg]*algorithm{}, map[scheme][]*algorithm{}
	for i := range algorithms {
		x := &algorithms[i]
		names[x.alg] = x
		schemes[scheme{x.family, x.hash}] = append(schemes[scheme{x.family, x.hash}], x)
	}
	return names, schemes
}

var unknown algorithm

// lookup returns the algorithm with the name a. If there is none, all fields are zero.
func (a Alg) lookup() (x *algorithm, ok bool) {
	if x, ok = byName[a]; !ok {
		return &unknown, false
	}
	return x, true
}

// find returns the algorithm of a family and hash that fits pub.
func find(pub crypto.PublicKey, family Family, hash crypto.Hash) (Alg, error) {
	for _, x := range byScheme[scheme{family, hash}] {
		if x.alg.Fits(pub) == nil {
			return x.alg, nil
		}
	}
	return "", fmt.Errorf("%w: no algorithm of JOSE for this key and hash %v", ErrUnsupported, hash)
}
