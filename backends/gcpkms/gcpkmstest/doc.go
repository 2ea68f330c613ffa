// Package gcpkmstest is a Google Cloud KMS for tests: a gRPC server on loopback that
// holds real keys, really signs, and fails when told to.
//
//	kms := gcpkmstest.New(t)
//	key := kms.CreateKey("oidc", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
//	ref := kms.CreateVersion(key)
//	backend, err := gcpkms.Open(t.Context(), gcpkms.Config{Endpoint: kms.Endpoint(), Plaintext: true})
//
// It answers GetPublicKey, GetCryptoKey, GetCryptoKeyVersion,
// ListCryptoKeyVersions, AsymmetricSign, AsymmetricDecrypt, MacSign, MacVerify,
// Encrypt, Decrypt and TestIamPermissions as Google does: it verifies every CRC32C and
// answers with one, knows the states of a version, asks for the permission of each
// call, and refuses what Google refuses. Other calls are UNIMPLEMENTED. Methods of
// [Server] set keys, times, permissions, quota and faults.
package gcpkmstest
