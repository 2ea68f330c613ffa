package awskmstest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // #nosec G505 -- RSAES_OAEP_SHA_1 has it
	"crypto/x509"

	"github.com/go-json-experiment/json"
)

const (
	symmetricAlgorithm = "SYMMETRIC_DEFAULT"
	ecdhAlgorithm      = "ECDH"
)

var encryptionAlgorithms = append([]string{symmetricAlgorithm, "SM2PKE"}, rsaEncryption...)

// A recipient is a Nitro enclave for which to encrypt the answer. This server refuses
// it.
type recipient struct {
	AttestationDocument    []byte `json:"AttestationDocument"`
	KeyEncryptionAlgorithm string `json:"KeyEncryptionAlgorithm"`
}

func (r *recipient) refuse() *Problem {
	if r != nil {
		return problem("UnsupportedOperationException", "awskmstest has no Recipient")
	}
	return nil
}

// has returns the algorithms with which the key encrypts.
func (k *key) has() []string {
	if specs[k.spec].rsa > 0 {
		return rsaEncryption
	}
	return []string{symmetricAlgorithm}
}

type encryptRequest struct {
	common
	dry
	Plaintext           []byte            `json:"Plaintext"`
	EncryptionAlgorithm string            `json:"EncryptionAlgorithm"`
	EncryptionContext   map[string]string `json:"EncryptionContext"`
}

func (s *Server) encrypt(in *encryptRequest, denied bool) (answer, *Problem) {
	k, p := s.use(in.KeyId, "Encrypt", encryptDecrypt, denied)
	if p == nil {
		p = checkEncryption(k, &in.EncryptionAlgorithm, in.EncryptionContext)
	}
	if p == nil {
		p = length("plaintext", in.Plaintext, maxPlaintext)
	}
	if p == nil {
		p = in.done()
	}
	if p != nil {
		return nil, p
	}

	var blob []byte
	pub, ok := k.public().(*rsa.PublicKey)
	if ok {
		var err error
		if blob, err = rsa.EncryptOAEP(hashOf(in.EncryptionAlgorithm).New(), rand.Reader, pub, in.Plaintext, nil); err != nil {
			return nil, invalid("the plaintext is too long for the key")
		}
	} else {
		blob = k.seal(in.Plaintext, in.EncryptionContext)
	}

	return answer{"KeyId": k.arn, "CiphertextBlob": blob, "EncryptionAlgorithm": in.EncryptionAlgorithm}, nil
}

// maxContext is how long an encryption context may be, in bytes of JSON.
const maxContext = 8192

// checkEncryption sets the default algorithm if none is named, and checks algorithm and
// encryption context.
func checkEncryption(k *key, algorithm *string, context map[string]string) *Problem {
	if *algorithm == "" {
		*algorithm = symmetricAlgorithm
	}
	if p := oneOf("encryptionAlgorithm", *algorithm, encryptionAlgorithms, k.has(), k); p != nil {
		return p
	}

	if *algorithm != symmetricAlgorithm && len(context) > 0 {
		return invalid("EncryptionContext is not supported for asymmetric keys")
	}
	if len(context) > 0 && len(canonical(context)) > maxContext {
		return invalid("EncryptionContext is too long")
	}
	return nil
}

func canonical(context map[string]string) []byte {
	text, err := json.Marshal(context, json.Deterministic(true))
	if err != nil {
		return nil
	}
	return text
}

// A blob of this server is the id of its key, as 36 characters, and then nonce and
// ciphertext of AES-GCM, bound to the encryption context.
const idSize = 36

func (k *key) aead() cipher.AEAD {
	block, err := aes.NewCipher(k.secret)
	if err != nil {
		panic("awskmstest: " + err.Error()) // a secret of 32 bytes
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("awskmstest: " + err.Error())
	}
	return gcm
}

func (k *key) seal(plaintext []byte, context map[string]string) []byte {
	return k.aead().Seal([]byte(k.id), nil, plaintext, canonical(context)) // #nosec G407 -- the AEAD makes the nonce
}

type decryptRequest struct {
	common
	dry
	CiphertextBlob      []byte            `json:"CiphertextBlob"`
	DryRunModifiers     []string          `json:"DryRunModifiers"`
	EncryptionAlgorithm string            `json:"EncryptionAlgorithm"`
	EncryptionContext   map[string]string `json:"EncryptionContext"`
	Recipient           *recipient        `json:"Recipient"`
}

func (s *Server) decrypt(in *decryptRequest, denied bool) (answer, *Problem) {
	if p := length("ciphertextBlob", in.CiphertextBlob, maxCiphertext); p != nil {
		return nil, p
	}
	if in.KeyId == "" && len(in.CiphertextBlob) > idSize { // a symmetric blob names its key
		in.KeyId = string(in.CiphertextBlob[:idSize])
	}

	k, p := s.use(in.KeyId, "Decrypt", encryptDecrypt, denied)
	if p == nil && len(in.DryRunModifiers) > 0 {
		p = problem("UnsupportedOperationException", "awskmstest has no DryRunModifiers")
	}
	if p == nil {
		p = in.Recipient.refuse()
	}
	if p == nil {
		p = checkEncryption(k, &in.EncryptionAlgorithm, in.EncryptionContext)
	}
	if p != nil {
		return nil, p
	}

	plaintext, p := k.open(in)
	if p == nil {
		p = in.done()
	}
	if p != nil {
		return nil, p
	}
	return answer{"KeyId": k.arn, "Plaintext": plaintext, "EncryptionAlgorithm": in.EncryptionAlgorithm}, nil
}

func (k *key) open(in *decryptRequest) ([]byte, *Problem) {
	if private, ok := k.private.(*rsa.PrivateKey); ok {
		plaintext, err := rsa.DecryptOAEP(hashOf(in.EncryptionAlgorithm).New(), nil, private, in.CiphertextBlob, nil)
		if err != nil {
			return nil, problem("InvalidCiphertextException", "")
		}
		return plaintext, nil
	}

	if len(in.CiphertextBlob) <= idSize {
		return nil, problem("InvalidCiphertextException", "")
	}
	id, sealed := in.CiphertextBlob[:idSize], in.CiphertextBlob[idSize:]
	if !bytes.Equal(id, []byte(k.id)) {
		return nil, problem("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
	}

	plaintext, err := k.aead().Open([]byte{}, nil, sealed, canonical(in.EncryptionContext))
	if err != nil {
		return nil, problem("InvalidCiphertextException", "")
	}
	return plaintext, nil
}

type deriveSharedSecretRequest struct {
	common
	dry
	KeyAgreementAlgorithm string     `json:"KeyAgreementAlgorithm"`
	PublicKey             []byte     `json:"PublicKey"`
	Recipient             *recipient `json:"Recipient"`
}

func (s *Server) deriveSharedSecret(in *deriveSharedSecretRequest, denied bool) (answer, *Problem) {
	k, p := s.use(in.KeyId, "DeriveSharedSecret", keyAgreement, denied)
	if p == nil {
		p = in.Recipient.refuse()
	}
	if p == nil {
		p = oneOf("keyAgreementAlgorithm", in.KeyAgreementAlgorithm, []string{ecdhAlgorithm}, []string{ecdhAlgorithm}, k)
	}
	if p == nil {
		p = length("publicKey", in.PublicKey, maxSPKI)
	}
	if p != nil {
		return nil, p
	}

	z, ok := k.agree(in.PublicKey)
	if !ok {
		return nil, invalid("PublicKey is not a valid public key on the curve of " + k.spec)
	}
	if p := in.done(); p != nil {
		return nil, p
	}
	return answer{"KeyId": k.arn, "SharedSecret": z, "KeyAgreementAlgorithm": in.KeyAgreementAlgorithm, "KeyOrigin": "AWS_KMS"}, nil
}

func (k *key) agree(spki []byte) ([]byte, bool) {
	private, ok := k.ecdh()
	if !ok {
		return nil, false
	}

	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, false
	}
	var peer *ecdh.PublicKey
	if ec, ok := parsed.(*ecdsa.PublicKey); ok {
		peer, err = ec.ECDH()
	}
	if err != nil || peer == nil {
		return nil, false
	}

	z, err := private.ECDH(peer)
	return z, err == nil
}
