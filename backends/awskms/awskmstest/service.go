package awskmstest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"filippo.io/mldsa"
	"filippo.io/mldsa/x509"

	"signetd/signer/signertest"
)

// An op is an operation of the API.
type op struct {
	crypto bool // whether calls count for the quota
	run    func(s *Server, body []byte, denied bool) (answer, *Problem)
}

// handle returns the operation that decodes a Q and passes it to do.
func handle[Q any](crypto bool, do func(s *Server, in *Q, denied bool) (answer, *Problem)) op {
	return op{crypto, func(s *Server, body []byte, denied bool) (answer, *Problem) {
		var in Q
		if p := decode(body, &in); p != nil {
			return nil, p
		}
		return do(s, &in, denied)
	}}
}

var operations = map[string]op{
	"DescribeKey":        handle(false, (*Server).describeKey),
	"GetPublicKey":       handle(false, (*Server).getPublicKey),
	"Sign":               handle(true, (*Server).sign),
	"Verify":             handle(true, (*Server).verify),
	"GenerateMac":        handle(true, (*Server).generateMAC),
	"VerifyMac":          handle(true, (*Server).verifyMAC),
	"Encrypt":            handle(true, (*Server).encrypt),
	"Decrypt":            handle(true, (*Server).decrypt),
	"DeriveSharedSecret": handle(true, (*Server).deriveSharedSecret),
}

// A common has the members that all requests have. Grants are ignored.
type common struct {
	KeyId       string   `json:"KeyId"` //nolint:staticcheck // AWS's name
	GrantTokens []string `json:"GrantTokens"`
}

// A dry is the DryRun member of a request: make the checks, and do nothing.
type dry struct {
	DryRun bool `json:"DryRun"`
}

// done returns the error that a request with DryRun gets when all checks have passed.
func (d dry) done() *Problem {
	if d.DryRun {
		return problem("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
	}
	return nil
}

type describeKeyRequest struct {
	common
}

func (s *Server) describeKey(in *describeKeyRequest, denied bool) (answer, *Problem) {
	k, p := s.look(in.KeyId, "DescribeKey", denied)
	if p != nil {
		return nil, p
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	m := answer{
		"AWSAccountId": s.config.Account, "Arn": k.arn, "KeyId": k.id, "KeySpec": k.spec, "CustomerMasterKeySpec": k.spec, "KeyUsage": k.usage,
		"KeyState": k.state, "Enabled": k.state == Enabled, "CreationDate": float64(k.created.UnixMilli()) / 1000, "Description": "",
		"KeyManager": "CUSTOMER", "Origin": "AWS_KMS", "MultiRegion": strings.HasPrefix(k.id, multiRegion),
	}

	if k.state == PendingDeletion {
		m["DeletionDate"] = float64(s.now().AddDate(0, 0, 30).UnixMilli()) / 1000
	}
	k.addAlgorithms(m)
	return answer{"KeyMetadata": m}, nil
}

// addAlgorithms adds the lists of the key's algorithms to an answer.
func (k *key) addAlgorithms(a answer) {
	sp := specs[k.spec]
	switch {
	case k.usage == signVerify:
		a["SigningAlgorithms"] = sp.sign
	case k.usage == generateVerify:
		a["MacAlgorithms"] = []string{sp.mac}
	case k.usage == keyAgreement:
		a["KeyAgreementAlgorithms"] = []string{ecdhAlgorithm}
	case sp.rsa > 0:
		a["EncryptionAlgorithms"] = rsaEncryption
	default:
		a["EncryptionAlgorithms"] = []string{symmetricAlgorithm}
	}
}

type getPublicKeyRequest struct {
	common
}

func (s *Server) getPublicKey(in *getPublicKeyRequest, denied bool) (answer, *Problem) {
	k, p := s.look(in.KeyId, "GetPublicKey", denied)
	if p != nil {
		return nil, p
	}
	if k.public() == nil {
		return nil, problem("UnsupportedOperationException", k.arn+" is a symmetric key.")
	}
	if k, p = s.use(in.KeyId, "GetPublicKey", k.usage, denied); p != nil {
		return nil, p
	}

	spki, err := k.spki()
	if err != nil {
		return nil, problem("KMSInternalException", err.Error())
	}
	a := answer{"KeyId": k.arn, "KeySpec": k.spec, "CustomerMasterKeySpec": k.spec, "KeyUsage": k.usage, "PublicKey": spki}
	k.addAlgorithms(a)
	return a, nil
}

func (k *key) spki() ([]byte, error) {
	if pub, ok := k.public().(*mldsa.PublicKey); ok {
		return x509.MarshalPKIXPublicKey(pub)
	}
	return signertest.MarshalPublicKey(k.public())
}

// The limits of AWS, in bytes.
const (
	maxMessage    = 4096
	maxPlaintext  = 4096
	maxCiphertext = 6144
	maxSPKI       = 8192
)

// length returns an error unless a member has 1 to most bytes.
func length(member string, value []byte, most int) *Problem {
	if len(value) == 0 || len(value) > most {
		return invalid(fmt.Sprintf("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length between 1 and %d", member, most))
	}
	return nil
}

// oneOf returns an error unless a member's value is an algorithm, one of all, and one
// that the key has.
func oneOf(member, value string, all, has []string, k *key) *Problem {
	if !slices.Contains(all, value) {
		return invalid(fmt.Sprintf("1 validation error detected: Value '%.64s' at '%s' failed to satisfy constraint: Member must satisfy enum value set: %v", value, member, all))
	}
	if !slices.Contains(has, value) {
		return problem("InvalidKeyUsageException", fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", value, k.spec))
	}
	return nil
}

// withOtherKey runs a request again with a new key of the same type and usage.
func (s *Server) withOtherKey(op string, body []byte) (answer, *Problem) {
	var in map[string]any
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, problem("SerializationException", err.Error())
	}

	ref, _ := in["KeyId"].(string)
	k := s.find(ref)
	if k == nil {
		return nil, problem("NotFoundException", ref)
	}

	other := s.CreateKey(k.spec, k.usage)
	defer s.DeleteKey(other)
	in["KeyId"] = other
	return operations[op].run(s, encode(in), false)
}
