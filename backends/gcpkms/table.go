package gcpkms

import (
	"slices"

	"signetd/signer"
)

// A use is the call for which a version is used, and what the call is sent.
type use int

const (
	useNone         use = iota // nothing that JOSE has
	useSignDigest              // AsymmetricSign of a digest
	useSignData                // AsymmetricSign of the message itself
	useSignRawPKCS1            // AsymmetricSign of a DigestInfo
	useSignMu                  // AsymmetricSign of the mu of a message, for ML-DSA
	useDecrypt                 // AsymmetricDecrypt
	useMAC                     // MacSign
	useBlob                    // Encrypt and Decrypt
)

// A row is one of Google's algorithms and its use here.
type row struct {
	algorithm string       // Google's name, such as EC_SIGN_P256_SHA256
	algs      []signer.Alg // what its versions do; none for GOOGLE_SYMMETRIC_ENCRYPTION, which is a signer.BlobCipher
	use       use
	size      int    // of the modulus in bits, or of the secret in bytes; 0 if algs say it
	why       string // it has no use here
}

// The reasons why an algorithm has no use here.
const (
	whyNoHash   = "JOSE has no HMAC with this hash (RFC 7518 section 3.2)"
	whyPQ       = "ML-DSA is the only post-quantum algorithm of JOSE that is supported"
	whyRawAES   = "keys for raw AES are not supported here"
	whyWrapping = "Google's AES key wrap moves keys between HSMs and unwraps nothing for a caller"
	whyExternal = "keys in an external key manager that encrypt are not supported here"
)

// rows are in the order of Google's documentation.
var rows = []row{
	{algorithm: "RSA_SIGN_PKCS1_2048_SHA256", algs: []signer.Alg{signer.RS256}, use: useSignDigest, size: 2048},
	{algorithm: "RSA_SIGN_PKCS1_3072_SHA256", algs: []signer.Alg{signer.RS256}, use: useSignDigest, size: 3072},
	{algorithm: "RSA_SIGN_PKCS1_4096_SHA256", algs: []signer.Alg{signer.RS256}, use: useSignDigest, size: 4096},
	{algorithm: "RSA_SIGN_PKCS1_4096_SHA512", algs: []signer.Alg{signer.RS512}, use: useSignDigest, size: 4096},
	{algorithm: "RSA_SIGN_RAW_PKCS1_2048", algs: []signer.Alg{signer.RS256, signer.RS384, signer.RS512}, use: useSignRawPKCS1, size: 2048},
	{algorithm: "RSA_SIGN_RAW_PKCS1_3072", algs: []signer.Alg{signer.RS256, signer.RS384, signer.RS512}, use: useSignRawPKCS1, size: 3072},
	{algorithm: "RSA_SIGN_RAW_PKCS1_4096", algs: []signer.Alg{signer.RS256, signer.RS384, signer.RS512}, use: useSignRawPKCS1, size: 4096},
	{algorithm: "RSA_SIGN_PSS_2048_SHA256", algs: []signer.Alg{signer.PS256}, use: useSignDigest, size: 2048},
	{algorithm: "RSA_SIGN_PSS_3072_SHA256", algs: []signer.Alg{signer.PS256}, use: useSignDigest, size: 3072},
	{algorithm: "RSA_SIGN_PSS_4096_SHA256", algs: []signer.Alg{signer.PS256}, use: useSignDigest, size: 4096},
	{algorithm: "RSA_SIGN_PSS_4096_SHA512", algs: []signer.Alg{signer.PS512}, use: useSignDigest, size: 4096},
	{algorithm: "EC_SIGN_P256_SHA256", algs: []signer.Alg{signer.ES256}, use: useSignDigest},
	{algorithm: "EC_SIGN_P384_SHA384", algs: []signer.Alg{signer.ES384}, use: useSignDigest},
	{algorithm: "EC_SIGN_SECP256K1_SHA256", algs: []signer.Alg{signer.ES256K}, use: useSignDigest},
	{algorithm: "EC_SIGN_ED25519", algs: []signer.Alg{signer.EdDSA, signer.Ed25519}, use: useSignData},
	{algorithm: "PQ_SIGN_ML_DSA_44", algs: []signer.Alg{signer.MLDSA44}, use: useSignData},
	{algorithm: "PQ_SIGN_ML_DSA_65", algs: []signer.Alg{signer.MLDSA65}, use: useSignData},
	{algorithm: "PQ_SIGN_ML_DSA_87", algs: []signer.Alg{signer.MLDSA87}, use: useSignData},
	{algorithm: "PQ_SIGN_ML_DSA_44_EXTERNAL_MU", algs: []signer.Alg{signer.MLDSA44}, use: useSignMu},
	{algorithm: "PQ_SIGN_ML_DSA_65_EXTERNAL_MU", algs: []signer.Alg{signer.MLDSA65}, use: useSignMu},
	{algorithm: "PQ_SIGN_ML_DSA_87_EXTERNAL_MU", algs: []signer.Alg{signer.MLDSA87}, use: useSignMu},
	{algorithm: "RSA_DECRYPT_OAEP_2048_SHA1", algs: []signer.Alg{signer.RSAOAEP}, use: useDecrypt, size: 2048},
	{algorithm: "RSA_DECRYPT_OAEP_3072_SHA1", algs: []signer.Alg{signer.RSAOAEP}, use: useDecrypt, size: 3072},
	{algorithm: "RSA_DECRYPT_OAEP_4096_SHA1", algs: []signer.Alg{signer.RSAOAEP}, use: useDecrypt, size: 4096},
	{algorithm: "RSA_DECRYPT_OAEP_2048_SHA256", algs: []signer.Alg{signer.RSAOAEP256}, use: useDecrypt, size: 2048},
	{algorithm: "RSA_DECRYPT_OAEP_3072_SHA256", algs: []signer.Alg{signer.RSAOAEP256}, use: useDecrypt, size: 3072},
	{algorithm: "RSA_DECRYPT_OAEP_4096_SHA256", algs: []signer.Alg{signer.RSAOAEP256}, use: useDecrypt, size: 4096},
	{algorithm: "RSA_DECRYPT_OAEP_4096_SHA512", algs: []signer.Alg{signer.RSAOAEP512}, use: useDecrypt, size: 4096},
	{algorithm: "HMAC_SHA256", algs: []signer.Alg{signer.HS256}, use: useMAC, size: 32},
	{algorithm: "HMAC_SHA384", algs: []signer.Alg{signer.HS384}, use: useMAC, size: 48},
	{algorithm: "HMAC_SHA512", algs: []signer.Alg{signer.HS512}, use: useMAC, size: 64},
	{algorithm: "GOOGLE_SYMMETRIC_ENCRYPTION", use: useBlob, size: 32},

	{algorithm: "HMAC_SHA1", why: whyNoHash},
	{algorithm: "HMAC_SHA224", why: whyNoHash},
	{algorithm: "AES_128_GCM", why: whyRawAES},
	{algorithm: "AES_256_GCM", why: whyRawAES},
	{algorithm: "AES_128_CBC", why: whyRawAES},
	{algorithm: "AES_256_CBC", why: whyRawAES},
	{algorithm: "AES_128_CTR", why: whyRawAES},
	{algorithm: "AES_256_CTR", why: whyRawAES},
	{algorithm: "AES_256_KWP", why: whyWrapping},
	{algorithm: "EXTERNAL_SYMMETRIC_ENCRYPTION", why: whyExternal},
	{algorithm: "ML_KEM_768", why: whyPQ},
	{algorithm: "ML_KEM_1024", why: whyPQ},
	{algorithm: "KEM_XWING", why: whyPQ},
	{algorithm: "PQ_SIGN_SLH_DSA_SHA2_128S", why: whyPQ},
	{algorithm: "PQ_SIGN_HASH_SLH_DSA_SHA2_128S_SHA256", why: whyPQ},
}

// KeysFor returns Google's algorithms whose versions do alg. It is empty for an
// algorithm that Google does not have.
func KeysFor(alg signer.Alg) (names []string) {
	for _, r := range rows {
		if slices.Contains(r.algs, alg) {
			names = append(names, r.algorithm)
		}
	}
	return names
}

// rowOf returns the row of an algorithm. One that is not in the table has no use.
func rowOf(algorithm string) row {
	if i := slices.IndexFunc(rows, func(r row) bool { return r.algorithm == algorithm }); i >= 0 {
		return rows[i]
	}
	return row{algorithm: algorithm, why: "this version of signetd does not know it"}
}
