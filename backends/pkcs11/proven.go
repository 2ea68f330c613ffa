//go:build cgo

package pkcs11

import (
	"slices"

	"signetd/signer"
)

var _ signer.Prover = (*key)(nil)

// Proven reports whether OpenKey has used the key with alg: of the algorithms
// that sign, with the first of each family, and with all that decrypt RSA-OAEP.
func (k *key) Proven(alg signer.Alg) bool {
	switch family := alg.Family(); family { //nolint:exhaustive // what is not named here is proven again
	case signer.FamilyOAEP:
		return slices.Contains(k.algs, alg)
	case signer.FamilyPKCS1v15, signer.FamilyPSS, signer.FamilyECDSA:
		first := slices.IndexFunc(k.algs, func(a signer.Alg) bool { return a.Family() == family })
		return first >= 0 && k.algs[first] == alg
	}
	return false
}
