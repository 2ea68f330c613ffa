// Package awskms uses keys that AWS KMS holds.
//
// A backend is one account's keys in one region, reached with one set of
// credentials. A ref is the ARN of a key,
//
//	arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab
//
// or that of an alias (...:alias/NAME) or alias/NAME, each with or without
// awskms:/// before it. An alias is resolved once, when the key is opened, and the
// key's own ARN is used from then on: if the alias is pointed at another key, nothing
// changes before the next start or reload. A multi-Region key has an ARN in each of
// its regions, so it needs a backend for each of them.
//
// OpenKey reads a key's state, usage and public half, and tries each operation that
// its usage is for with DryRun, so that a missing permission shows at once. What a key
// can do follows from its KeySpec and KeyUsage:
//
//	SIGN_VERIFY          RSA_*                      RS256 RS384 RS512 PS256 PS384 PS512
//	                     ECC_NIST_P256, P384, P521  ES256, ES384, ES512
//	                     ECC_SECG_P256K1            ES256K
//	                     ECC_NIST_EDWARDS25519      EdDSA, Ed25519: messages of up to 4096 bytes
//	                     ML_DSA_44, 65, 87          ML-DSA-44, ML-DSA-65, ML-DSA-87: AWS is sent the mu
//	GENERATE_VERIFY_MAC  HMAC_256, 384, 512         HS256, HS384, HS512: messages of up to 4096 bytes
//	ENCRYPT_DECRYPT      RSA_*                      RSA-OAEP, RSA-OAEP-256
//	                     SYMMETRIC_DEFAULT          signer.BlobCipher
//	KEY_AGREEMENT        ECC_NIST_P256, P384, P521  ECDH-ES, ECDH-ES+A128KW, A192KW, A256KW
//
// OpenKey refuses other keys with ErrUnsupported.
//
// An answer counts only if it names the ARN and the algorithm that were asked for, and
// every signature is verified with the public key before it is returned. Package
// [signetd/backends/cloud] makes the calls, with retries and rates.
package awskms
