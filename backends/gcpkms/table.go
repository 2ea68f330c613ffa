package gcpkms

import (
	"slices"

	"signetd/signer"
)

// A use is what is done with a version, and how.
type use int

const (
	useNone      use = iota // nothing that JOSE has
	signDigest              // AsymmetricSign of a digest
	signData                // AsymmetricSign of the message itself
	signRawPKCS1            // AsymmetricSign of a DigestInfo
	signMu                  // AsymmetricSign of the mu of a message, for ML-DSA
	decrypt                 // AsymmetricDecrypt
	makeMAC                 // MacSign
	encryptBlob             // Encrypt and Decrypt
)

// A Row is one of Google's algorithms and what it is good for here.
type Row struct {
	Algorithm string       // as Google calls it, such as EC_SIGN_P256_SHA256
	Algs      []signer.Alg // what a version of it does; none for GOOGLE_SYMMETRIC_ENCRYPTION, which is a signer.BlobCipher
	use       use
	size      int    // of the modulus in bits, or of the secret in bytes
	why       string // there is no use for it
}

// why there is no use for an algorithm.
const (
	whyNoHash   = "JOSE has no HMAC with this hash (RFC 7518 section 3.2)"
	whyPQ       = "JOSE has no such post-quantum algorithm, and here there is ML-DSA alone"
	whyRawAES   = "keys for raw AES are not supported here"
	whyWrapping = "Google's AES key wrap moves keys between HSMs and unwraps nothing for a caller"
	whyExternal = "keys in an external key manager that encrypt are not supported here"
)

// rows are in the order of Google's documentation.
var rows = []Row{
	{Algorithm: "RSA_SIGN_PKCS1_2048_SHA256", Algs: []signer.Alg{signer.RS256}, use: signDigest, size: 2048},
	{Algorithm: "RSA_SIGN_PKCS1_3072_SHA256", Algs: []signer.Alg{signer.RS256}, use: signDigest, size: 3072},
	{Algorithm: "RSA_SIGN_PKCS1_4096_SHA256", Algs: []signer.Alg{signer.RS256}, use: signDigest, size: 4096},
	{Algorithm: "RSA_SIGN_PKCS1_4096_SHA512", Algs: []signer.Alg{signer.RS512}, use: signDigest, size: 4096},
	{Algorithm: "RSA_SIGN_RAW_PKCS1_2048", Algs: []signer.Alg{signer.RS256, signer.RS384, signer.RS512}, use: signRawPKCS1, size: 2048},
	{Algorithm: "RSA_SIGN_RAW_PKCS1_3072", Algs: []signer.Alg{signer.RS256, signer.RS384, signer.RS512}, use: signRawPKCS1, size: 3072},
	{Algorithm: "RSA_SIGN_RAW_PKCS1_4096", Algs: []signer.Alg{signer.RS256, signer.RS384, signer.RS512}, use: signRawPKCS1, size: 4096},
	{Algorithm: "RSA_SIGN_PSS_2048_SHA256", Algs: []signer.Alg{signer.PS256}, use: signDigest, size: 2048},
	{Algorithm: "RSA_SIGN_PSS_3072_SHA256", Algs: []signer.Alg{signer.PS256}, use: signDigest, size: 3072},
	{Algorithm: "RSA_SIGN_PSS_4096_SHA256", Algs: []signer.Alg{signer.PS256}, use: signDigest, size: 4096},
	{Algorithm: "RSA_SIGN_PSS_4096_SHA512", Algs: []signer.Alg{signer.PS512}, use: signDigest, size: 4096},
	{Algorithm: "EC_SIGN_P256_SHA256", Algs: []signer.Alg{signer.ES256}, use: signDigest},
	{Algorithm: "EC_SIGN_P384_SHA384", Algs: []signer.Alg{signer.ES384}, use: signDigest},
	{Algorithm: "EC_SIGN_SECP256K1_SHA256", Algs: []signer.Alg{signer.ES256K}, use: signDigest},
	{Algorithm: "EC_SIGN_ED25519", Algs: []signer.Alg{signer.EdDSA, signer.Ed25519}, use: signData},
	{Algorithm: "PQ_SIGN_ML_DSA_44", Algs: []signer.Alg{signer.MLDSA44}, use: signData},
	{Algorithm: "PQ_SIGN_ML_DSA_65", Algs: []signer.Alg{signer.MLDSA65}, use: signData},
	{Algorithm: "PQ_SIGN_ML_DSA_87", Algs: []signer.Alg{signer.MLDSA87}, use: signData},
	{Algorithm: "PQ_SIGN_ML_DSA_44_EXTERNAL_MU", Algs: []signer.Alg{signer.MLDSA44}, use: signMu},
	{Algorithm: "PQ_SIGN_ML_DSA_65_EXTERNAL_MU", Algs: []signer.Alg{signer.MLDSA65}, use: signMu},
	{Algorithm: "PQ_SIGN_ML_DSA_87_EXTERNAL_MU", Algs: []signer.Alg{signer.MLDSA87}, use: signMu},
	{Algorithm: "RSA_DECRYPT_OAEP_2048_SHA1", Algs: []signer.Alg{signer.RSAOAEP}, use: decrypt, size: 2048},
	{Algorithm: "RSA_DECRYPT_OAEP_3072_SHA1", Algs: []signer.Alg{signer.RSAOAEP}, use: decrypt, size: 3072},
	{Algorithm: "RSA_DECRYPT_OAEP_4096_SHA1", Algs: []signer.Alg{signer.RSAOAEP}, use: decrypt, size: 4096},
	{Algorithm: "RSA_DECRYPT_OAEP_2048_SHA256", Algs: []signer.Alg{signer.RSAOAEP256}, use: decrypt, size: 2048},
	{Algorithm: "RSA_DECRYPT_OAEP_3072_SHA256", Algs: []signer.Alg{signer.RSAOAEP256}, use: decrypt, size: 3072},
	{Algorithm: "RSA_DECRYPT_OAEP_4096_SHA256", Algs: []signer.Alg{signer.RSAOAEP256}, use: decrypt, size: 4096},
	{Algorithm: "RSA_DECRYPT_OAEP_4096_SHA512", Algs: []signer.Alg{signer.RSAOAEP512}, use: decrypt, size: 4096},
	{Algorithm: "HMAC_SHA256", Algs: []signer.Alg{signer.HS256}, use: makeMAC, size: 32},
	{Algorithm: "HMAC_SHA384", Algs: []signer.Alg{signer.HS384}, use: makeMAC, size: 48},
	{Algorithm: "HMAC_SHA512", Algs: []signer.Alg{signer.HS512}, use: makeMAC, size: 64},
	{Algorithm: "GOOGLE_SYMMETRIC_ENCRYPTION", use: encryptBlob, size: 32},

	{Algorithm: "HMAC_SHA1", why: whyNoHash},
	{Algorithm: "HMAC_SHA224", why: whyNoHash},
	{Algorithm: "AES_128_GCM", why: whyRawAES},
	{Algorithm: "AES_256_GCM", why: whyRawAES},
	{Algorithm: "AES_128_CBC", why: whyRawAES},
	{Algorithm: "AES_256_CBC", why: whyRawAES},
	{Algorithm: "AES_128_CTR", why: whyRawAES},
	{Algorithm: "AES_256_CTR", why: whyRawAES},
	{Algorithm: "AES_256_KWP", why: whyWrapping},
	{Algorithm: "EXTERNAL_SYMMETRIC_ENCRYPTION", why: whyExternal},
	{Algorithm: "ML_KEM_768", why: whyPQ},
	{Algorithm: "ML_KEM_1024", why: whyPQ},
	{Algorithm: "KEM_XWING", why: whyPQ},
	{Algorithm: "PQ_SIGN_SLH_DSA_SHA2_128S", why: whyPQ},
	{Algorithm: "PQ_SIGN_HASH_SLH_DSA_SHA2_128S_SHA256", why: whyPQ},
}

// Table returns what each of Google's algorithms that has a use here is good for.
func Table() []Row {
	var used []Row
	for _, r := range rows {
		if r.use != useNone {
			r.Algs = slices.Clone(r.Algs)
			used = append(used, r)
		}
	}
	return used
}

// KeysFor returns Google's algorithms whose versions do alg. It is empty for what
// Google does not have.
func KeysFor(alg signer.Alg) (names []string) {
	for _, r := range rows {
		if slices.Contains(r.Algs, alg) {
			names = append(names, r.Algorithm)
		}
	}
	return names
}

// row returns the row of an algorithm. One that is not known has no use.
func row(algorithm string) Row {
	if i := slices.IndexFunc(rows, func(r Row) bool { return r.Algorithm == algorithm }); i >= 0 {
		return rows[i]
	}
	return Row{Algorithm: algorithm, why: "it is not known here"}
}
