//go:build cgo

package pkcs11

import (
	"crypto"

	"signetd/signer"
)

// NativeOAEP reports whether a decryption key uses the token's own OAEP for hash.
func NativeOAEP(k signer.Key, hash crypto.Hash) bool { return inner(k).opens[hash] == oaepDecrypt }

// StrategyOf says how the token does alg with k.
func StrategyOf(k signer.Key, alg signer.Alg) string { return strategyOf(k, alg) }

// WrapStrategyOf says how the token wraps and unwraps with k in one form.
func WrapStrategyOf(k signer.Key, form signer.WrapForm) string {
	w := inner(k).wraps[form]
	return w.wrap.String() + " / " + w.unwrap.String()
}
