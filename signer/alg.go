package signer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha1"   // #nosec G505 -- RSA-OAEP is defined with SHA-1 (RFC 7518 section 4.3)
	_ "crypto/sha256" // registers SHA-256 with package crypto
	_ "crypto/sha512" // registers SHA-384 and SHA-512 with package crypto
	"fmt"
	"slices"
)

// An Alg is a JOSE "alg": how a key signs or unwraps (RFC 7518 sections 3.1 and
// 4.1, and the IANA registry for RSA-OAEP-384 and -512).
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

	RSAOAEP    Alg = "RSA-OAEP"
	RSAOAEP256 Alg = "RSA-OAEP-256"
	RSAOAEP384 Alg = "RSA-OAEP-384"
	RSAOAEP512 Alg = "RSA-OAEP-512"
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
)

// MinRSABits is the size below which RSA keys are refused (RFC 7518 sections
// 3.3 and 4.2).
const MinRSABits = 2048

// MaxRSABits is the size above which RSA keys are refused. The time of an
// operation grows with the square of it, and a public key may come in a request.
const MaxRSABits = 16384

type algorithm struct {
	alg    Alg
	family Family
	hash   crypto.Hash
	curve  elliptic.Curve
}

var algorithms = []algorithm{
	{RS256, FamilyPKCS1v15, crypto.SHA256, nil},
	{RS384, FamilyPKCS1v15, crypto.SHA384, nil},
	{RS512, FamilyPKCS1v15, crypto.SHA512, nil},
	{PS256, FamilyPSS, crypto.SHA256, nil},
	{PS384, FamilyPSS, crypto.SHA384, nil},
	{PS512, FamilyPSS, crypto.SHA512, nil},
	{ES256, FamilyECDSA, crypto.SHA256, elliptic.P256()},
	{ES384, FamilyECDSA, crypto.SHA384, elliptic.P384()},
	{ES512, FamilyECDSA, crypto.SHA512, elliptic.P521()},
	{RSAOAEP, FamilyOAEP, crypto.SHA1, nil},
	{RSAOAEP256, FamilyOAEP, crypto.SHA256, nil},
	{RSAOAEP384, FamilyOAEP, crypto.SHA384, nil},
	{RSAOAEP512, FamilyOAEP, crypto.SHA512, nil},
}

func (a Alg) lookup() (algorithm, bool) {
	i := slices.IndexFunc(algorithms, func(x algorithm) bool { return x.alg == a })
	if i < 0 {
		return algorithm{}, false
	}
	return algorithms[i], true
}

// Family returns the scheme of a, or 0 if a is not known.
func (a Alg) Family() Family {
	x, _ := a.lookup()
	return x.family
}

// Hash returns the hash of a, or 0 if a is not known.
func (a Alg) Hash() crypto.Hash {
	x, _ := a.lookup()
	return x.hash
}

// Use returns what a is for, or "" if a is not known.
func (a Alg) Use() Use {
	switch a.Family() {
	case FamilyPKCS1v15, FamilyPSS, FamilyECDSA:
		return UseSig
	case FamilyOAEP:
		return UseEnc
	default:
		return ""
	}
}

// Fits returns ErrUnsupported if a cannot be used with pub: the wrong type of
// key, another curve, or an RSA key shorter than [MinRSABits] or longer than
// [MaxRSABits].
func (a Alg) Fits(pub crypto.PublicKey) error {
	x, ok := a.lookup()
	if !ok {
		return fmt.Errorf("%w: unknown algorithm %.32q", ErrUnsupported, string(a))
	}
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if x.family == FamilyECDSA {
			return fmt.Errorf("%w: %s needs a key on %s, not an RSA key", ErrUnsupported, a, x.curve.Params().Name)
		}
		if bits := pub.N.BitLen(); bits < MinRSABits {
			return fmt.Errorf("%w: %s needs an RSA key of %d bits or more, not %d", ErrUnsupported, a, MinRSABits, bits)
		} else if bits > MaxRSABits {
			return fmt.Errorf("%w: %s takes an RSA key of %d bits at most, not %d", ErrUnsupported, a, MaxRSABits, bits)
		}
		return nil
	case *ecdsa.PublicKey:
		if x.family != FamilyECDSA {
			return fmt.Errorf("%w: %s needs an RSA key, not one on %s", ErrUnsupported, a, pub.Curve.Params().Name)
		}
		if pub.Curve != x.curve {
			return fmt.Errorf("%w: %s needs a key on %s, not on %s", ErrUnsupported, a, x.curve.Params().Name, pub.Curve.Params().Name)
		}
		return nil
	default:
		return fmt.Errorf("%w: no algorithm for a key of type %T", ErrUnsupported, pub)
	}
}

// Algs returns the algorithms that fit pub, in the order of RFC 7518.
func Algs(pub crypto.PublicKey) []Alg {
	var algs []Alg
	for _, x := range algorithms {
		if x.alg.Fits(pub) == nil {
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

// CheckDigest is what every [Signer] asks before it touches its key: which
// algorithm do pub and opts ask for, and is digest as long as its hash? Tokens
// sign a digest of any length without complaint.
//
// A salt length of rsa.PSSSaltLengthAuto is read as the hash's length, the only
// one that JOSE knows (RFC 7518 section 3.5). Errors are ErrUnsupported and
// ErrInvalid.
func CheckDigest(pub crypto.PublicKey, digest []byte, opts crypto.SignerOpts) (Alg, error) {
	if opts == nil {
		return "", fmt.Errorf("%w: no hash given", ErrUnsupported)
	}
	hash, family := opts.HashFunc(), FamilyPKCS1v15
	if _, ok := pub.(*ecdsa.PublicKey); ok {
		family = FamilyECDSA
	}
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		family = FamilyPSS
		if n := pss.SaltLength; n != rsa.PSSSaltLengthEqualsHash && n != rsa.PSSSaltLengthAuto && (hash == 0 || n != hash.Size()) {
			return "", fmt.Errorf("%w: a PSS salt is as long as the hash (RFC 7518 section 3.5), not %d", ErrUnsupported, n)
		}
	}
	alg, err := find(pub, family, hash)
	if err != nil {
		return "", err
	}
	if len(digest) != hash.Size() {
		return "", fmt.Errorf("%w: %s signs a digest of %d bytes, not %d", ErrInvalid, alg, hash.Size(), len(digest))
	}
	return alg, nil
}

// CheckCiphertext is what every [Decrypter] asks before it touches its key:
// which algorithm does opts ask for, and is ciphertext as long as the modulus
// and smaller in value? Tokens answer a ciphertext that is not with errors that
// look like a lost device. Errors are ErrUnsupported and ErrDecrypt.
func CheckCiphertext(pub crypto.PublicKey, ciphertext []byte, opts crypto.DecrypterOpts) (Alg, error) {
	oaep, ok := opts.(*rsa.OAEPOptions)
	if !ok {
		return "", fmt.Errorf("%w: decryption options of type %T", ErrUnsupported, opts)
	}
	if len(oaep.Label) != 0 {
		return "", fmt.Errorf("%w: OAEP labels (JWE has none)", ErrUnsupported)
	}
	if oaep.MGFHash != 0 && oaep.MGFHash != oaep.Hash {
		return "", fmt.Errorf("%w: an OAEP mask hash other than the hash", ErrUnsupported)
	}
	alg, err := find(pub, FamilyOAEP, oaep.Hash)
	if err != nil {
		return "", err
	}
	key, _ := pub.(*rsa.PublicKey) // find let nothing else through
	n := key.N.FillBytes(make([]byte, key.Size()))
	if len(ciphertext) != len(n) || bytes.Compare(ciphertext, n) >= 0 {
		return "", ErrDecrypt
	}
	return alg, nil
}

// find returns the algorithm of a family and hash that fits pub.
func find(pub crypto.PublicKey, family Family, hash crypto.Hash) (Alg, error) {
	for _, x := range algorithms {
		if x.family == family && x.hash == hash && x.alg.Fits(pub) == nil {
			return x.alg, nil
		}
	}
	return "", fmt.Errorf("%w: no algorithm of JOSE for this key and hash %v", ErrUnsupported, hash)
}
