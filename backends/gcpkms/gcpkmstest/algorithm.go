package gcpkmstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"filippo.io/mldsa"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// An Algorithm is Google's name for what a version does.
type Algorithm = kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm

// A scheme is how a key is used.
type scheme int

const (
	schemeNone scheme = iota // not at all: the key only exists
	schemePKCS1
	schemeRawPKCS1
	schemePSS
	schemeECDSA
	schemeK1
	schemeEd25519
	schemeMLDSA
	schemeMu
	schemeOAEP
	schemeHMAC
	schemeGCM
)

// A spec is what an [Algorithm] stands for.
type spec struct {
	purpose kmspb.CryptoKey_CryptoKeyPurpose
	scheme  scheme
	hash    crypto.Hash
	size    int // of the modulus in bits, or of the secret in bytes
	curve   elliptic.Curve
	mldsa   mldsa.Parameters
}

const (
	signing    = kmspb.CryptoKey_ASYMMETRIC_SIGN
	decryption = kmspb.CryptoKey_ASYMMETRIC_DECRYPT
	macs       = kmspb.CryptoKey_MAC
)

// specs are the algorithms of which a [Server] has keys. Keys of the last two cannot be
// used: a client must refuse them itself.
var specs = map[Algorithm]spec{
	kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_2048_SHA256:    {purpose: signing, scheme: schemePKCS1, hash: crypto.SHA256, size: 2048},
	kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_3072_SHA256:    {purpose: signing, scheme: schemePKCS1, hash: crypto.SHA256, size: 3072},
	kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_4096_SHA256:    {purpose: signing, scheme: schemePKCS1, hash: crypto.SHA256, size: 4096},
	kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_4096_SHA512:    {purpose: signing, scheme: schemePKCS1, hash: crypto.SHA512, size: 4096},
	kmspb.CryptoKeyVersion_RSA_SIGN_RAW_PKCS1_2048:       {purpose: signing, scheme: schemeRawPKCS1, size: 2048},
	kmspb.CryptoKeyVersion_RSA_SIGN_RAW_PKCS1_3072:       {purpose: signing, scheme: schemeRawPKCS1, size: 3072},
	kmspb.CryptoKeyVersion_RSA_SIGN_RAW_PKCS1_4096:       {purpose: signing, scheme: schemeRawPKCS1, size: 4096},
	kmspb.CryptoKeyVersion_RSA_SIGN_PSS_2048_SHA256:      {purpose: signing, scheme: schemePSS, hash: crypto.SHA256, size: 2048},
	kmspb.CryptoKeyVersion_RSA_SIGN_PSS_3072_SHA256:      {purpose: signing, scheme: schemePSS, hash: crypto.SHA256, size: 3072},
	kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA256:      {purpose: signing, scheme: schemePSS, hash: crypto.SHA256, size: 4096},
	kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA512:      {purpose: signing, scheme: schemePSS, hash: crypto.SHA512, size: 4096},
	kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256:           {purpose: signing, scheme: schemeECDSA, hash: crypto.SHA256, curve: elliptic.P256()},
	kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384:           {purpose: signing, scheme: schemeECDSA, hash: crypto.SHA384, curve: elliptic.P384()},
	kmspb.CryptoKeyVersion_EC_SIGN_SECP256K1_SHA256:      {purpose: signing, scheme: schemeK1, hash: crypto.SHA256},
	kmspb.CryptoKeyVersion_EC_SIGN_ED25519:               {purpose: signing, scheme: schemeEd25519},
	kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_44:             {purpose: signing, scheme: schemeMLDSA, mldsa: mldsa.MLDSA44()},
	kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_65:             {purpose: signing, scheme: schemeMLDSA, mldsa: mldsa.MLDSA65()},
	kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_87:             {purpose: signing, scheme: schemeMLDSA, mldsa: mldsa.MLDSA87()},
	kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_44_EXTERNAL_MU: {purpose: signing, scheme: schemeMu, mldsa: mldsa.MLDSA44()},
	kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_65_EXTERNAL_MU: {purpose: signing, scheme: schemeMu, mldsa: mldsa.MLDSA65()},
	kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_87_EXTERNAL_MU: {purpose: signing, scheme: schemeMu, mldsa: mldsa.MLDSA87()},
	kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_2048_SHA1:    {purpose: decryption, scheme: schemeOAEP, hash: crypto.SHA1, size: 2048},
	kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_3072_SHA1:    {purpose: decryption, scheme: schemeOAEP, hash: crypto.SHA1, size: 3072},
	kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_4096_SHA1:    {purpose: decryption, scheme: schemeOAEP, hash: crypto.SHA1, size: 4096},
	kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_2048_SHA256:  {purpose: decryption, scheme: schemeOAEP, hash: crypto.SHA256, size: 2048},
	kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_3072_SHA256:  {purpose: decryption, scheme: schemeOAEP, hash: crypto.SHA256, size: 3072},
	kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_4096_SHA256:  {purpose: decryption, scheme: schemeOAEP, hash: crypto.SHA256, size: 4096},
	kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_4096_SHA512:  {purpose: decryption, scheme: schemeOAEP, hash: crypto.SHA512, size: 4096},
	kmspb.CryptoKeyVersion_HMAC_SHA1:                     {purpose: macs, scheme: schemeHMAC, hash: crypto.SHA1, size: 20},
	kmspb.CryptoKeyVersion_HMAC_SHA224:                   {purpose: macs, scheme: schemeHMAC, hash: crypto.SHA224, size: 28},
	kmspb.CryptoKeyVersion_HMAC_SHA256:                   {purpose: macs, scheme: schemeHMAC, hash: crypto.SHA256, size: 32},
	kmspb.CryptoKeyVersion_HMAC_SHA384:                   {purpose: macs, scheme: schemeHMAC, hash: crypto.SHA384, size: 48},
	kmspb.CryptoKeyVersion_HMAC_SHA512:                   {purpose: macs, scheme: schemeHMAC, hash: crypto.SHA512, size: 64},
	kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION:   {purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT, scheme: schemeGCM, size: 32},
	kmspb.CryptoKeyVersion_AES_256_GCM:                   {purpose: kmspb.CryptoKey_RAW_ENCRYPT_DECRYPT, size: 32},
	kmspb.CryptoKeyVersion_PQ_SIGN_SLH_DSA_SHA2_128S:     {purpose: signing},
}

// generate makes the secret of a version: a private key, or bytes.
func generate(s spec) (any, error) {
	switch s.scheme {
	case schemePKCS1, schemeRawPKCS1, schemePSS, schemeOAEP:
		return rsa.GenerateKey(rand.Reader, s.size)
	case schemeECDSA:
		return ecdsa.GenerateKey(s.curve, rand.Reader)
	case schemeK1:
		return secp256k1.GeneratePrivateKey()
	case schemeEd25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case schemeMLDSA, schemeMu:
		return mldsa.GenerateKey(s.mldsa)
	case schemeHMAC, schemeGCM:
		secret := make([]byte, s.size)
		rand.Read(secret)
		return secret, nil
	case schemeNone:
		return nil, nil
	default:
		return nil, fmt.Errorf("gcpkmstest: no scheme %d", s.scheme)
	}
}
