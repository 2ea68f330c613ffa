package awskmstest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // registers the hash
	"crypto/sha512"
	"fmt"
	"strings"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	k1 "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"signetd/backends/cloud"
	"signetd/signer"
)

const (
	raw    = "RAW"
	digest = "DIGEST"
	mu     = "EXTERNAL_MU"

	mldsaShake = "ML_DSA_SHAKE_256"

	ed25519Pure = "ED25519_SHA_512"
	ed25519PH   = "ED25519_PH_SHA_512"
)

// muSize is the length of a mu in bytes (FIPS 204 algorithm 7).
const muSize = 64

var signingAlgorithms = append([]string{
	"ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512", ed25519Pure, ed25519PH, "SM2DSA", mldsaShake,
}, rsaSigning...)

type signRequest struct {
	common
	dry
	Message          []byte `json:"Message"`
	MessageType      string `json:"MessageType"`
	SigningAlgorithm string `json:"SigningAlgorithm"`
}

// prepare checks a request to sign or verify. It returns the key and what is signed: a
// digest, for Ed25519 the message, and for ML-DSA the message or its mu.
func (s *Server) prepare(in *signRequest, op string, denied bool) (k *key, signed []byte, p *Problem) {
	if k, p = s.use(in.KeyId, op, signVerify, denied); p != nil {
		return nil, nil, p
	}
	if p := oneOf("signingAlgorithm", in.SigningAlgorithm, signingAlgorithms, specs[k.spec].sign, k); p != nil {
		return nil, nil, p
	}

	if in.MessageType == "" {
		in.MessageType = raw
	}
	if in.MessageType != raw && in.MessageType != digest && in.MessageType != mu {
		return nil, nil, invalid("1 validation error detected: Value at 'messageType' failed to satisfy constraint: Member must satisfy enum value set: [RAW, DIGEST, EXTERNAL_MU]")
	}
	if p := length("message", in.Message, maxMessage); p != nil {
		return nil, nil, p
	}

	switch {
	case in.SigningAlgorithm == ed25519Pure && in.MessageType != raw, in.SigningAlgorithm == ed25519PH && in.MessageType != digest,
		in.SigningAlgorithm == mldsaShake && in.MessageType == digest, in.SigningAlgorithm != mldsaShake && in.MessageType == mu:
		return nil, nil, invalid(fmt.Sprintf("MessageType %s is not valid for algorithm %s.", in.MessageType, in.SigningAlgorithm))
	case in.MessageType == mu && len(in.Message) != muSize:
		return nil, nil, invalid("Message is invalid length for message type EXTERNAL_MU.")
	case in.SigningAlgorithm == ed25519Pure, in.SigningAlgorithm == mldsaShake:
		return k, in.Message, nil
	}

	hash := hashOf(in.SigningAlgorithm)
	if in.MessageType == digest {
		if len(in.Message) != hash.Size() {
			return nil, nil, invalid("Digest is invalid length for algorithm " + in.SigningAlgorithm + ".")
		}
		return k, in.Message, nil
	}

	h := hash.New()
	h.Write(in.Message)
	return k, h.Sum(nil), nil
}

// hashOf returns the hash in the name of an algorithm.
func hashOf(algorithm string) crypto.Hash {
	switch {
	case strings.HasSuffix(algorithm, "_1"):
		return crypto.SHA1
	case strings.HasSuffix(algorithm, "224"):
		return crypto.SHA224
	case strings.HasSuffix(algorithm, "256"):
		return crypto.SHA256
	case strings.HasSuffix(algorithm, "384"):
		return crypto.SHA384
	default:
		return crypto.SHA512
	}
}

func (s *Server) sign(in *signRequest, denied bool) (answer, *Problem) {
	k, signed, p := s.prepare(in, "Sign", denied)
	if p == nil {
		p = in.done()
	}
	if p != nil {
		return nil, p
	}

	sig, err := k.sign(in, signed)
	if err != nil {
		return nil, problem("KMSInternalException", err.Error())
	}
	return answer{"KeyId": k.arn, "Signature": sig, "SigningAlgorithm": in.SigningAlgorithm}, nil
}

// sign signs what prepare returned. The salt of PSS is as long as the hash.
func (k *key) sign(in *signRequest, signed []byte) ([]byte, error) {
	algorithm := in.SigningAlgorithm
	switch {
	case in.MessageType == mu:
		return k.private.Sign(rand.Reader, signed, mldsacrypto.MLDSAMu)
	case algorithm == mldsaShake:
		return k.private.Sign(rand.Reader, signed, crypto.Hash(0))
	case k.koblitz != nil:
		return k1.Sign(k.koblitz, signed).Serialize(), nil
	case algorithm == ed25519Pure:
		return k.private.Sign(rand.Reader, signed, crypto.Hash(0))
	case algorithm == ed25519PH: // of the digest that was sent, hashed again
		sum := sha512.Sum512(signed)
		return k.private.Sign(rand.Reader, sum[:], &ed25519.Options{Hash: crypto.SHA512})
	case strings.Contains(algorithm, "_PSS_"):
		return k.private.Sign(rand.Reader, signed, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hashOf(algorithm)})
	default:
		return k.private.Sign(rand.Reader, signed, hashOf(algorithm))
	}
}

type verifyRequest struct {
	signRequest
	Signature []byte `json:"Signature"`
}

func (s *Server) verify(in *verifyRequest, denied bool) (answer, *Problem) {
	k, signed, p := s.prepare(&in.signRequest, "Verify", denied)
	if p == nil {
		p = length("signature", in.Signature, maxCiphertext)
	}
	if p == nil {
		p = in.done()
	}
	if p != nil {
		return nil, p
	}

	if in.MessageType == mu {
		return nil, problem("UnsupportedOperationException", "awskmstest does not verify EXTERNAL_MU.")
	}
	if !k.verify(in.SigningAlgorithm, signed, in.Signature) {
		return nil, problem("KMSInvalidSignatureException", "")
	}
	return answer{"KeyId": k.arn, "SignatureValid": true, "SigningAlgorithm": in.SigningAlgorithm}, nil
}

// verify reports whether sig is a signature of the key.
func (k *key) verify(algorithm string, signed, sig []byte) bool {
	if pub, ok := k.public().(*mldsa.PublicKey); ok {
		return mldsa.Verify(pub, signed, sig, nil) == nil
	}
	if algorithm == ed25519PH {
		sum := sha512.Sum512(signed)
		pub, ok := k.public().(ed25519.PublicKey)
		return ok && ed25519.VerifyWithOptions(pub, sum[:], sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
	}

	var family signer.Family
	switch {
	case algorithm == ed25519Pure:
		family = signer.FamilyEdDSA
	case strings.HasPrefix(algorithm, "ECDSA_"):
		family = signer.FamilyECDSA
	case strings.Contains(algorithm, "_PSS_"):
		family = signer.FamilyPSS
	default:
		family = signer.FamilyPKCS1v15
	}

	for _, alg := range signer.Algs(k.public()) {
		if alg.Family() == family && (alg.Hash() == 0 || alg.Hash() == hashOf(algorithm)) {
			return cloud.Verify(k.public(), alg, signed, sig) == nil
		}
	}
	return false
}

type macRequest struct {
	common
	dry
	Message      []byte `json:"Message"`
	MacAlgorithm string `json:"MacAlgorithm"`
}

var macAlgorithms = []string{"HMAC_SHA_224", "HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512"}

// mac checks a request and returns the key and its MAC.
func (s *Server) mac(in *macRequest, op string, denied bool) (*key, []byte, *Problem) {
	k, p := s.use(in.KeyId, op, generateVerify, denied)
	if p == nil {
		p = oneOf("macAlgorithm", in.MacAlgorithm, macAlgorithms, []string{specs[k.spec].mac}, k)
	}
	if p == nil {
		p = length("message", in.Message, maxMessage)
	}
	if p != nil {
		return nil, nil, p
	}

	h := hmac.New(hashOf(in.MacAlgorithm).New, k.secret)
	h.Write(in.Message)
	return k, h.Sum(nil), nil
}

func (s *Server) generateMAC(in *macRequest, denied bool) (answer, *Problem) {
	k, mac, p := s.mac(in, "GenerateMac", denied)
	if p == nil {
		p = in.done()
	}
	if p != nil {
		return nil, p
	}
	return answer{"KeyId": k.arn, "Mac": mac, "MacAlgorithm": in.MacAlgorithm}, nil
}

type verifyMACRequest struct {
	macRequest
	Mac []byte `json:"Mac"`
}

func (s *Server) verifyMAC(in *verifyMACRequest, denied bool) (answer, *Problem) {
	k, mac, p := s.mac(&in.macRequest, "VerifyMac", denied)
	if p == nil {
		p = length("mac", in.Mac, maxCiphertext)
	}
	if p == nil {
		p = in.done()
	}
	if p != nil {
		return nil, p
	}
	if !hmac.Equal(mac, in.Mac) {
		return nil, problem("KMSInvalidMacException", "")
	}
	return answer{"KeyId": k.arn, "MacAlgorithm": in.MacAlgorithm, "MacValid": true}, nil
}
