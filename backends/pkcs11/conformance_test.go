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

			signertest.Ed25519:   generate("ed25519", provision.Ed25519, signer.UseSig),
			signertest.Secp256k1: generate("k1", provision.ECSecp256k1, signer.UseSig),
			signertest.HMAC:      generate("hmac", provision.HMAC512, signer.UseSig),
			signertest.AES128:    generate("aes128", provision.AES128, signer.UseEnc),
			signertest.AES192:    generate("aes192", provision.AES192, signer.UseEnc),
			signertest.AES256:    generate("aes256", provision.AES256, signer.UseEnc),
			signertest.ECDHP256:  generate("ecdh256", provision.ECP256, signer.UseEnc),
			signertest.ECDHP384:  generate("ecdh384", provision.ECP384, signer.UseEnc),
			signertest.ECDHP521:  generate("ecdh521", provision.ECP521, signer.UseEnc),
		},
		Missing: "pkcs11:object=nobody",
	})
}
