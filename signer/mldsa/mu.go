package mldsa

import (
	"crypto/sha3"

	"signetd/signer"
)

// MuSize is the length of a mu in bytes.
const MuSize = 64

// Mu returns what ML-DSA signs of a message with an empty context, the message
// representative (FIPS 204 algorithms 2 and 7, RFC 9881 appendix D). Hardware that
// takes it in the place of the message makes the same signature, of a message of
// any length.
func Mu(pub *signer.AKP, message []byte) []byte {
	tr := sha3.SumSHAKE256(pub.Bytes(), 64)
	h := sha3.NewSHAKE256()
	_, _ = h.Write(tr)
	_, _ = h.Write([]byte{0, 0}) // pure ML-DSA, and a context of no bytes
	_, _ = h.Write(message)
	mu := make([]byte, MuSize)
	_, _ = h.Read(mu)
	return mu
}
