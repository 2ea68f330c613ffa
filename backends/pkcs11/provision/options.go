package provision

import (
	"fmt"

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
	Label  string     // of the key; no other private key of the token may have it
	ID     []byte     // CKA_ID of the key; 16 random bytes if empty
	Type   KeyType    // what to generate
	Use    signer.Use // whether the key signs or decrypts; never both
}

// A Key is a key pair that [GenerateKey] made.
type Key struct {
	URI    string // the ref to put in the configuration
	Public []byte // the public half, PKIX DER (RFC 5280 section 4.1.2.7)
}

// A KeyType is an algorithm and a size.
type KeyType string

// The types of keys.
const (
	ECP256  KeyType = "ec-p256"
	ECP384  KeyType = "ec-p384"
	ECP521  KeyType = "ec-p521"
	RSA2048 KeyType = "rsa-2048"
	RSA3072 KeyType = "rsa-3072"
	RSA4096 KeyType = "rsa-4096"
)

// bits is the length of the modulus, 0 for an EC key.
func (t KeyType) bits() int {
	switch t {
	case RSA2048:
		return 2048
	case RSA3072:
		return 3072
	case RSA4096:
		return 4096
	case ECP256, ECP384, ECP521:
	}
	return 0
}

func (t KeyType) known() bool {
	switch t {
	case ECP256, ECP384, ECP521, RSA2048, RSA3072, RSA4096:
		return true
	}
	return false
}

func (o KeyOptions) check() error {
	switch {
	case o.Token == "" && o.Serial == "":
		return fmt.Errorf("%w: token or serial must be given", signer.ErrInvalid)
	case o.Label == "":
		return fmt.Errorf("%w: the key needs a label", signer.ErrInvalid)
	case len(o.PIN) == 0:
		return fmt.Errorf("%w: the PIN is empty", signer.ErrInvalid)
	case !o.Type.known():
		return fmt.Errorf("%w: key type %.32q is none of ec-p256, ec-p384, ec-p521, rsa-2048, rsa-3072, rsa-4096", signer.ErrInvalid, string(o.Type))
	case o.Use != signer.UseSig && o.Use != signer.UseEnc:
		return fmt.Errorf("%w: use %.32q is neither sig nor enc", signer.ErrInvalid, string(o.Use))
	case o.Use == signer.UseEnc && o.Type.bits() == 0:
		return fmt.Errorf("%w: an %s key cannot be used to decrypt: choose an RSA type", signer.ErrInvalid, o.Type)
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
