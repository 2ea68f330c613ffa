package mldsa

import (
	"crypto/sha3"

	"signetd/signer"
)

// MuSize is the length of a mu in bytes.
const MuSize = 64

// Mu returns the message representative, which ML-DSA signs in the place of the message
// (FIPS 204 algorithms 2 and 7, RFC 9881 appendix D), for an empty context. Hardware that
// takes it makes the same signature as from the message, however long that is.
func Mu(pub *signer.AKP, message []byte) []byte {
	tr := sha3.SumSHAKE256(pub.Bytes(), 64)
	h := sha3.NewSHAKE256()
	_, _ = h.Write(tr)
	_, _ = h.Write([]byte{0, 0}) // pure ML-DSA, and an empty context
	_, _ = h.Write(message)
	mu := make([]byte, MuSize)
	_, _ = h.Read(mu)
	return mu
}
