//go:build cgo

package cryptoki

import (
	"crypto"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"

	p11 "github.com/miekg/pkcs11"
)

// Mechanisms of PKCS#11 v3.0 that the binding has no names for.
const (
	EdDSA         = 0x1057 // CKM_EDDSA, section 2.3.14; without a parameter it is pure Ed25519
	AESKeyWrapKWP = 0x210b // CKM_AES_KEY_WRAP_KWP, section 2.14
)

// A Hash is a hash function in the words of PKCS#11.
type Hash struct {
	Mechanism uint // the hash itself
	MGF       uint // the mask of PSS and OAEP
	PKCS1     uint // the mechanisms that hash the message: RSASSA-PKCS1-v1_5,
	PSS       uint // RSASSA-PSS,
	ECDSA     uint // ECDSA
	HMAC      uint // and HMAC
}

// Hashes holds the hash functions of JOSE. SHA-1 is there for OAEP alone.
var Hashes = map[crypto.Hash]Hash{
	crypto.SHA1:   {Mechanism: p11.CKM_SHA_1, MGF: p11.CKG_MGF1_SHA1},
	crypto.SHA256: {p11.CKM_SHA256, p11.CKG_MGF1_SHA256, p11.CKM_SHA256_RSA_PKCS, p11.CKM_SHA256_RSA_PKCS_PSS, p11.CKM_ECDSA_SHA256, p11.CKM_SHA256_HMAC},
	crypto.SHA384: {p11.CKM_SHA384, p11.CKG_MGF1_SHA384, p11.CKM_SHA384_RSA_PKCS, p11.CKM_SHA384_RSA_PKCS_PSS, p11.CKM_ECDSA_SHA384, p11.CKM_SHA384_HMAC},
	crypto.SHA512: {p11.CKM_SHA512, p11.CKG_MGF1_SHA512, p11.CKM_SHA512_RSA_PKCS, p11.CKM_SHA512_RSA_PKCS_PSS, p11.CKM_ECDSA_SHA512, p11.CKM_SHA512_HMAC},
}

// mechanismList has a line for each mechanism that PKCS#11 names: number, space, name.
//
//go:embed mechanisms.txt
var mechanismList string

var mechanismNames = sync.OnceValue(func() map[uint64]string {
	names := make(map[uint64]string)
	for line := range strings.Lines(mechanismList) {
		number, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(number, 0, 64)
		if err != nil {
			panic(err) // a mistake in mechanisms.txt
		}
		names[n] = name
	}
	return names
})

// MechanismName returns the name that PKCS#11 gives a mechanism, such as CKM_ECDSA, or
// the number of a vendor's own, such as 0x80000001.
func MechanismName(typ uint) string {
	if name, ok := mechanismNames()[uint64(typ)]; ok {
		return name
	}
	return fmt.Sprintf("%#x", typ)
}
