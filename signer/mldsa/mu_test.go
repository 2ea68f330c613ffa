package mldsa_test

import (
	"bytes"
	"testing"

	independent "filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"

	"signetd/signer"
	"signetd/signer/mldsa"
)

// TestMu has another implementation sign the mu of a message, and verifies the
// signature as one of the message.
func TestMu(t *testing.T) {
	for alg, parameters := range map[signer.Alg]independent.Parameters{
		signer.MLDSA44: independent.MLDSA44(), signer.MLDSA65: independent.MLDSA65(), signer.MLDSA87: independent.MLDSA87(),
	} {
		private, err := independent.GenerateKey(parameters)
		if err != nil {
			t.Fatal(err)
		}
		public, err := mldsa.Public(alg, private.PublicKey().Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 4096, 100_000} {
			message := bytes.Repeat([]byte{7}, size)
			mu := mldsa.Mu(public, message)
			sig, err := private.Sign(nil, mu, mldsacrypto.MLDSAMu)
			if err != nil || len(mu) != mldsa.MuSize || !signer.VerifyDigest(public, alg, message, sig) {
				t.Errorf("%s: the signature of the mu of %d bytes, %v, is none of the message", alg, size, err)
			}
			if signer.VerifyDigest(public, alg, append(message, 7), sig) {
				t.Errorf("%s: it is one of another message", alg)
			}
		}
	}
}
