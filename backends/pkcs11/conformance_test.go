//go:build cgo

package pkcs11_test

import (
	"testing"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/signer/signertest"
	"signetd/softhsm"
)

// TestConformance runs the suite that every backend runs.
func TestConformance(t *testing.T) {
	token := softhsm.New(t)
	generate := func(label string, typ provision.KeyType, use signer.Use) string {
		return token.Generate(t, label, typ, use)
	}
	signertest.Run(t, signertest.Config{
		Open: func(t *testing.T) signer.Backend { return mustOpen(t, token.Config()) },
		Refs: map[signertest.Kind]string{
			signertest.ECP256: generate("p256", provision.ECP256, signer.UseSig),
			signertest.ECP384: generate("p384", provision.ECP384, signer.UseSig),
			signertest.ECP521: generate("p521", provision.ECP521, signer.UseSig),
			signertest.RSASig: generate("sig", provision.RSA2048, signer.UseSig),
			signertest.RSAEnc: generate("enc", provision.RSA2048, signer.UseEnc),
		},
		Missing: "pkcs11:object=nobody",
	})
}
