//go:build !noaws

package awskms

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"signetd/backends/cloud"
	"signetd/signer"
	"signetd/signer/mldsa"
)

// signingAlgorithms are AWS's names. PSS has a salt as long as the hash.
var signingAlgorithms = map[signer.Alg]types.SigningAlgorithmSpec{
	signer.RS256:   types.SigningAlgorithmSpecRsassaPkcs1V15Sha256,
	signer.RS384:   types.SigningAlgorithmSpecRsassaPkcs1V15Sha384,
	signer.RS512:   types.SigningAlgorithmSpecRsassaPkcs1V15Sha512,
	signer.PS256:   types.SigningAlgorithmSpecRsassaPssSha256,
	signer.PS384:   types.SigningAlgorithmSpecRsassaPssSha384,
	signer.PS512:   types.SigningAlgorithmSpecRsassaPssSha512,
	signer.ES256:   types.SigningAlgorithmSpecEcdsaSha256,
	signer.ES384:   types.SigningAlgorithmSpecEcdsaSha384,
	signer.ES512:   types.SigningAlgorithmSpecEcdsaSha512,
	signer.ES256K:  types.SigningAlgorithmSpecEcdsaSha256,
	signer.EdDSA:   types.SigningAlgorithmSpecEd25519Sha512, // not ED25519_PH_SHA_512, which is HashEdDSA
	signer.Ed25519: types.SigningAlgorithmSpecEd25519Sha512,
	signer.MLDSA44: types.SigningAlgorithmSpecMlDsaShake256,
	signer.MLDSA65: types.SigningAlgorithmSpecMlDsaShake256,
	signer.MLDSA87: types.SigningAlgorithmSpecMlDsaShake256,
}

// A signKey is a key of usage SIGN_VERIFY.
type signKey struct{ *key }

var _ signer.Signer = signKey{}

func (k *key) openSign(ctx context.Context, m *types.KeyMetadata) (signer.Key, error) {
	for _, alg := range signer.Algs(k.public) {
		if _, ok := signingAlgorithms[alg]; ok {
			k.algs = append(k.algs, alg)
		}
	}
	if len(k.algs) == 0 {
		return nil, noUse(m)
	}
	switch k.public.(type) {
	case *rsa.PublicKey:
		k.class = classRSA
	case *signer.AKP:
		k.class = classMLDSA
	default:
		k.class = classECC
	}

	size := 1 // of a message, for algorithms that take no digest
	if hash := k.algs[0].Hash(); hash != 0 {
		size = hash.Size()
	}
	s := signKey{k}
	in := s.input(k.algs[0], make([]byte, size))
	in.DryRun = aws.Bool(true)
	return s, probe(ctx, k, "Sign", k.backend.client.Sign, in)
}

// Sign implements [crypto.Signer].
func (k signKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no context
}

// SignContext implements [signer.Signer]. For Ed25519, whose digest is the message, an
// empty message and one of more than 4096 bytes are ErrInvalid. A message for ML-DSA
// has any length: AWS is sent its mu (FIPS 204 algorithm 7, line 6).
func (k signKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) (sig []byte, err error) {
	alg, err := signer.CheckDigest(k.public, digest, opts)
	if err != nil {
		return nil, err
	}
	if err := k.has(alg); err != nil {
		return nil, err
	}
	in := k.input(alg, digest)
	if err := checkMessage(alg, in.Message); err != nil {
		return nil, err
	}

	err = k.call(ctx, "Sign", func(ctx context.Context) error {
		out, err := k.backend.client.Sign(ctx, in)
		if err != nil {
			return err
		}
		if err := checkAnswer(out.KeyId, k.arn, out.SigningAlgorithm, in.SigningAlgorithm); err != nil {
			return err
		}
		if len(out.Signature) == 0 {
			return cloud.Retry(errors.New("an answer without a signature"))
		}
		if err := cloud.Verify(k.public, alg, digest, out.Signature); err != nil {
			return cloud.Fail(err)
		}
		sig = out.Signature
		return nil
	})
	return sig, err
}

// input returns what AWS is sent to sign a digest, or for Ed25519 and ML-DSA a message.
func (k signKey) input(alg signer.Alg, digest []byte) *kms.SignInput {
	in := &kms.SignInput{
		KeyId: aws.String(k.arn), Message: digest,
		MessageType: types.MessageTypeDigest, SigningAlgorithm: signingAlgorithms[alg],
	}
	if pub, ok := k.public.(*signer.AKP); ok {
		in.MessageType, in.Message = types.MessageTypeExternalMu, mldsa.Mu(pub, digest)
	} else if alg.Hash() == 0 {
		in.MessageType = types.MessageTypeRaw
	}
	return in
}

// maxMessage is how long a message may be that AWS is sent whole, to sign it with
// Ed25519 or to make a MAC of it, in bytes.
const maxMessage = 4096

func checkMessage(alg signer.Alg, message []byte) error {
	if n := len(message); n == 0 || n > maxMessage {
		return fmt.Errorf("%w: %s takes a message of 1 to %d bytes for %s, not one of %d", signer.ErrInvalid, service, maxMessage, alg, n)
	}
	return nil
}
