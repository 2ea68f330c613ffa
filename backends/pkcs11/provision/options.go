package provision

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"signetd/signer"
)

// InitOptions say which token [InitToken] makes.
type InitOptions struct {
	Module string // path of the PKCS#11 library
	Label  string // of the new token, at most 32 bytes
	SOPIN  []byte // the security officer's
	PIN    []byte // the user's, for signetd
}

// KeyOptions say which key [GenerateKey] makes, and where.
type KeyOptions struct {
	Module string     // path of the PKCS#11 library
	Token  string     // label of the token; optional if Serial is set
	Serial string     // serial number of the token; optional if Token is set
	PIN    []byte     // the user's
	Label  string     // of the key; no other key of the token may have it
	ID     []byte     // CKA_ID of the key; 16 random bytes if empty
	Type   KeyType    // what to generate
	Use    signer.Use // whether the key signs, or opens secrets; never both
}

// A Key is what [GenerateKey] made.
type Key struct {
	URI    string // the ref to put in the configuration
	Public []byte // the public half in PKIX DER (RFC 5280 section 4.1.2.7); nil for a secret key
}

// A KeyType is an algorithm and a size.
type KeyType string

// The types of keys.
const (
	ECP256      KeyType = "ec-p256"
	ECP384      KeyType = "ec-p384"
	ECP521      KeyType = "ec-p521"
	ECSecp256k1 KeyType = "ec-secp256k1"
	Ed25519     KeyType = "ed25519"
	RSA2048     KeyType = "rsa-2048"
	RSA3072     KeyType = "rsa-3072"
	RSA4096     KeyType = "rsa-4096"
	HMAC512     KeyType = "hmac-512" // long enough for HS512
	AES128      KeyType = "aes-128"
	AES192      KeyType = "aes-192"
	AES256      KeyType = "aes-256"
)

// A shape says what a key can do.
type shape int

const (
	rsaPair    shape = iota + 1 // signs or decrypts
	ecPair                      // signs or agrees
	signPair                    // signs
	hmacSecret                  // makes MACs, which count as signatures
	aesSecret                   // wraps keys and encrypts
)

// types has the shape of each type, and its size in bits unless the curve says it.
var types = map[KeyType]struct {
	shape shape
	bits  int
}{
	ECP256: {ecPair, 0}, ECP384: {ecPair, 0}, ECP521: {ecPair, 0},
	ECSecp256k1: {signPair, 0}, Ed25519: {signPair, 0},
	RSA2048: {rsaPair, 2048}, RSA3072: {rsaPair, 3072}, RSA4096: {rsaPair, 4096},
	HMAC512: {hmacSecret, 512},
	AES128:  {aesSecret, 128}, AES192: {aesSecret, 192}, AES256: {aesSecret, 256},
}

// Secret reports whether t is a type of symmetric key.
func (t KeyType) Secret() bool {
	s := types[t].shape
	return s == hmacSecret || s == aesSecret
}

// Types returns the types of keys in alphabetical order.
func Types() []KeyType { return slices.Sorted(maps.Keys(types)) }

// TypeNames returns the types of keys as a list for an error text.
func TypeNames() string {
	names := make([]string, 0, len(types))
	for _, t := range Types() {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}

func (o KeyOptions) check() error {
	t, known := types[o.Type]

	switch {
	case o.Token == "" && o.Serial == "":
		return fmt.Errorf("%w: token or serial must be given", signer.ErrInvalid)
	case o.Label == "":
		return fmt.Errorf("%w: the key needs a label", signer.ErrInvalid)
	case len(o.PIN) == 0:
		return fmt.Errorf("%w: the PIN is empty", signer.ErrInvalid)
	case !known:
		return fmt.Errorf("%w: key type %.32q is none of %s", signer.ErrInvalid, string(o.Type), TypeNames())
	case o.Use != signer.UseSig && o.Use != signer.UseEnc:
		return fmt.Errorf("%w: use %.32q is neither sig nor enc", signer.ErrInvalid, string(o.Use))
	case o.Use == signer.UseEnc && (t.shape == signPair || t.shape == hmacSecret):
		return fmt.Errorf("%w: a key of type %s signs and does nothing else: its use is sig", signer.ErrInvalid, o.Type)
	case o.Use == signer.UseSig && t.shape == aesSecret:
		return fmt.Errorf("%w: a key of type %s does not sign: its use is enc", signer.ErrInvalid, o.Type)
	}
	return nil
}

func (o InitOptions) check() error {
	switch {
	case o.Label == "" || len(o.Label) > 32:
		return fmt.Errorf("%w: a token's label has 1 to 32 bytes, not %d", signer.ErrInvalid, len(o.Label))
	case len(o.SOPIN) == 0:
		return fmt.Errorf("%w: the security officer's PIN is empty", signer.ErrInvalid)
	case len(o.PIN) == 0:
		return fmt.Errorf("%w: the PIN is empty", signer.ErrInvalid)
	}
	return nil
}
