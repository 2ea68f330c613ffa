//go:build cgo

package pkcs11

import (
	"crypto"

	"signetd/signer"
)

// NativeOAEP reports whether a decryption key uses the token's own OAEP for hash.
func NativeOAEP(k signer.Key, hash crypto.Hash) bool {
	switch k := k.(type) {
	case decryptKey:
		return k.oaep[hash] == native
	case dualKey:
		return k.oaep[hash] == native
	}
	return false
}
