package awskmstest

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"time"

	"filippo.io/mldsa"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// A key is one KMS key. Only its state changes, under the server's mu.
type key struct {
	id, arn     string
	spec, usage string
	private     crypto.Signer         // nil for symmetric keys, and for the next
	koblitz     *secp256k1.PrivateKey // on secp256k1, for which there is no crypto.Signer
	secret      []byte                // of symmetric keys
	created     time.Time
	state       string
}

// The states that a key can be given.
const (
	Enabled         = "Enabled"
	Disabled        = "Disabled"
	PendingDeletion = "PendingDeletion"
	PendingImport   = "PendingImport"
	Unavailable     = "Unavailable"
)

// A spec is what a KeySpec allows.
type spec struct {
	usages []string
	rsa    int            // bits
	curve  elliptic.Curve // of NIST
	secret int            // bytes
	mldsa  *mldsa.Parameters
	sign   []string // SigningAlgorithms
	mac    string   // MacAlgorithm
}

const (
	signVerify     = "SIGN_VERIFY"
	encryptDecrypt = "ENCRYPT_DECRYPT"
	generateVerify = "GENERATE_VERIFY_MAC"
	keyAgreement   = "KEY_AGREEMENT"
)

var (
	rsaSigning    = []string{"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512", "RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512"}
	rsaEncryption = []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}

	rsaUsages   = []string{signVerify, encryptDecrypt}
	curveUsages = []string{signVerify, keyAgreement}
)

var specs = map[string]spec{
	"RSA_2048":              {usages: rsaUsages, rsa: 2048, sign: rsaSigning},
	"RSA_3072":              {usages: rsaUsages, rsa: 3072, sign: rsaSigning},
	"RSA_4096":              {usages: rsaUsages, rsa: 4096, sign: rsaSigning},
	"ECC_NIST_P256":         {usages: curveUsages, curve: elliptic.P256(), sign: []string{"ECDSA_SHA_256"}},
	"ECC_NIST_P384":         {usages: curveUsages, curve: elliptic.P384(), sign: []string{"ECDSA_SHA_384"}},
	"ECC_NIST_P521":         {usages: curveUsages, curve: elliptic.P521(), sign: []string{"ECDSA_SHA_512"}},
	"ECC_SECG_P256K1":       {usages: []string{signVerify}, sign: []string{"ECDSA_SHA_256"}},
	"ECC_NIST_EDWARDS25519": {usages: []string{signVerify}, sign: []string{"ED25519_SHA_512", "ED25519_PH_SHA_512"}},
	"ML_DSA_44":             {usages: []string{signVerify}, mldsa: new(mldsa.MLDSA44()), sign: []string{mldsaShake}},
	"ML_DSA_65":             {usages: []string{signVerify}, mldsa: new(mldsa.MLDSA65()), sign: []string{mldsaShake}},
	"ML_DSA_87":             {usages: []string{signVerify}, mldsa: new(mldsa.MLDSA87()), sign: []string{mldsaShake}},
	"HMAC_224":              {usages: []string{generateVerify}, secret: 28, mac: "HMAC_SHA_224"},
	"HMAC_256":              {usages: []string{generateVerify}, secret: 32, mac: "HMAC_SHA_256"},
	"HMAC_384":              {usages: []string{generateVerify}, secret: 48, mac: "HMAC_SHA_384"},
	"HMAC_512":              {usages: []string{generateVerify}, secret: 64, mac: "HMAC_SHA_512"},
	"SYMMETRIC_DEFAULT":     {usages: []string{encryptDecrypt}, secret: 32},
}

// CreateKey makes a key of a KeySpec, such as ECC_NIST_P256, for a KeyUsage, such as
// SIGN_VERIFY, and returns its ARN. It panics if AWS or this server has no such key.
func (s *Server) CreateKey(keySpec, keyUsage string) (arn string) {
	k, err := s.newKey(keySpec, keyUsage)
	if err != nil {
		panic("awskmstest: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[k.id] = k
	return k.arn
}

func (s *Server) newKey(keySpec, keyUsage string) (*key, error) {
	sp, ok := specs[keySpec]
	if !ok || !slices.Contains(sp.usages, keyUsage) {
		return nil, fmt.Errorf("no key of type %q for %q", keySpec, keyUsage)
	}

	id := requestID()
	id = strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
	k := &key{id: id, spec: keySpec, usage: keyUsage, created: s.clock(), state: Enabled}
	k.arn = fmt.Sprintf("arn:aws:kms:%s:%s:key/%s", s.config.Region, s.config.Account, id)
	return k, k.generate(sp)
}

func (k *key) generate(sp spec) (err error) {
	switch {
	case sp.rsa > 0:
		k.private, err = rsa.GenerateKey(rand.Reader, sp.rsa)
	case sp.curve != nil:
		k.private, err = ecdsa.GenerateKey(sp.curve, rand.Reader)
	case sp.mldsa != nil:
		k.private, err = mldsa.GenerateKey(*sp.mldsa)
	case k.spec == "ECC_SECG_P256K1":
		k.koblitz, err = secp256k1.GeneratePrivateKey()
	case k.spec == "ECC_NIST_EDWARDS25519":
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.secret = make([]byte, sp.secret)
		rand.Read(k.secret)
	}
	return err
}

// public returns the public half, or nil if there is none.
func (k *key) public() crypto.PublicKey {
	switch {
	case k.koblitz != nil:
		return k.koblitz.PubKey().ToECDSA()
	case k.private != nil:
		return k.private.Public()
	}
	return nil
}

// ecdh returns the private key for an agreement.
func (k *key) ecdh() (*ecdh.PrivateKey, bool) {
	ec, ok := k.private.(*ecdsa.PrivateKey)
	if !ok {
		return nil, false
	}
	private, err := ec.ECDH()
	return private, err == nil
}

// Public returns the public half of a key, for a test to verify with by itself: for
// ML-DSA a *[mldsa.PublicKey].
func (s *Server) Public(arn string) crypto.PublicKey {
	if k := s.find(arn); k != nil {
		return k.public()
	}
	return nil
}

// Secret returns the value of a symmetric key.
func (s *Server) Secret(arn string) []byte {
	if k := s.find(arn); k != nil {
		return slices.Clone(k.secret)
	}
	return nil
}

// SetState puts a key into a state. It does nothing for a key that does not exist.
func (s *Server) SetState(arn, state string) {
	if k := s.find(arn); k != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		k.state = state
	}
}

// DeleteKey deletes a key at once, without the waiting period of AWS.
func (s *Server) DeleteKey(arn string) {
	if k := s.find(arn); k != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.keys, k.id)
	}
}

// SetAlias points an alias, alias/NAME, at a key and returns the alias's ARN. As with
// AWS, it may be a key of another type than before.
func (s *Server) SetAlias(name, arn string) string {
	k := s.find(arn)
	if k == nil || !strings.HasPrefix(name, "alias/") {
		panic("awskmstest: no such key, or a name that is not alias/NAME")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases[name] = k.id
	return s.arnPrefix() + name
}

func (s *Server) arnPrefix() string {
	return fmt.Sprintf("arn:aws:kms:%s:%s:", s.config.Region, s.config.Account)
}

// find returns the key that an id, ARN, alias or alias ARN names, or nil.
func (s *Server) find(ref string) *key {
	s.mu.Lock()
	defer s.mu.Unlock()

	name := strings.TrimPrefix(ref, s.arnPrefix())
	if id, ok := s.aliases[name]; ok {
		return s.keys[id]
	}

	id, isKey := strings.CutPrefix(name, "key/")
	if isKey == (name == ref) { // neither a bare id nor an ARN
		return nil
	}
	return s.keys[id]
}

// use returns the key that a request names, if it is enabled and has keyUsage.
func (s *Server) use(ref, op, keyUsage string, denied bool) (*key, *Problem) {
	k, p := s.look(ref, op, denied)
	if p != nil {
		return nil, p
	}

	s.mu.Lock()
	state := k.state
	s.mu.Unlock()

	switch state {
	case Enabled:
	case Disabled:
		return nil, problem("DisabledException", k.arn+" is disabled.")
	case PendingDeletion:
		return nil, problem("KMSInvalidStateException", k.arn+" is pending deletion.")
	default:
		return nil, problem("KMSInvalidStateException", k.arn+" is in state "+state+".")
	}

	if k.usage != keyUsage {
		return nil, problem("InvalidKeyUsageException", fmt.Sprintf("%s key usage is %s which is not valid for %s.", k.arn, k.usage, op))
	}
	return k, nil
}

// look returns the key that a request names, in any state.
func (s *Server) look(ref, op string, denied bool) (*key, *Problem) {
	if ref == "" || len(ref) > 2048 {
		return nil, invalid("1 validation error detected: Value at 'keyId' failed to satisfy constraint: Member must have length between 1 and 2048")
	}
	if denied {
		return nil, problem("AccessDeniedException", fmt.Sprintf("User: arn:aws:iam::%s:user/test is not authorized to perform: kms:%s on this resource because no identity-based policy allows the kms:%s action", s.config.Account, op, op))
	}
	k := s.find(ref)
	if k == nil {
		return nil, problem("NotFoundException", fmt.Sprintf("Key '%s' does not exist", ref))
	}
	return k, nil
}
