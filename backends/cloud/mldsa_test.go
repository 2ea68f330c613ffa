package cloud_test

import (
	"bytes"
	"testing"

	"filippo.io/mldsa"
	"filippo.io/mldsa/x509"

	"signetd/backends/cloud"
	"signetd/signer"
)

// lastOfOID is the offset of the last byte of the OID. Before it are the headers of the two
// sequences, of four and two bytes, and the OID's own.
const lastOfOID = 4 + 2 + 2 + 8

// TestMLDSAKey reads keys that another implementation wrote, and verifies what they
// sign.
func TestMLDSAKey(t *testing.T) {
	for alg, parameters := range map[signer.Alg]mldsa.Parameters{
		signer.MLDSA44: mldsa.MLDSA44(), signer.MLDSA65: mldsa.MLDSA65(), signer.MLDSA87: mldsa.MLDSA87(),
	} {
		private, err := mldsa.GenerateKey(parameters)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			t.Fatal(err)
		}
		got, err := cloud.ParsePublicKey(der)
		if err != nil {
			t.Fatalf("%s: ParsePublicKey() = %v", alg, err)
		}
		akp, ok := got.(*signer.AKP)
		if !ok || akp.Alg() != alg || !bytes.Equal(akp.Bytes(), private.PublicKey().Bytes()) {
			t.Errorf("%s: ParsePublicKey() = %T, another key", alg, got)
		}
		sig, err := private.Sign(nil, []byte("message"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := cloud.Verify(got, alg, []byte("message"), sig); err != nil {
			t.Errorf("%s: Verify() = %v", alg, err)
		}
		if cloud.Verify(got, alg, []byte("massage"), sig) == nil || cloud.Verify(got, alg, []byte("message"), sig[1:]) == nil {
			t.Errorf("%s: Verify() of another message or a cut signature = nil", alg)
		}
		other := bytes.Clone(der)
		other[lastOfOID] = 17 + (other[lastOfOID]-16)%3
		for name, bad := range map[string][]byte{"cut": der[:len(der)-1], "more": append(bytes.Clone(der), 0), "another algorithm": other} {
			if got, err := cloud.ParsePublicKey(bad); err == nil {
				t.Errorf("%s: ParsePublicKey(%s) = %T, want an error", alg, name, got)
			}
		}
	}
}
