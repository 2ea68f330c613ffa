//go:build !noaws

package awskms

import (
	"context"
	"crypto"
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

// maxMessage is the longest message that AWS takes whole: to sign with Ed25519, and
// to make a MAC of.
const maxMessage = 4096

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
type signKey struct{ key }

var _ signer.Signer = (*signKey)(nil)

func (b *Backend) makeSign(ctx context.Context, k key, m *types.KeyMetadata, pub crypto.PublicKey) (signer.Key, error) {
	k.public = pub
	for _, alg := range signer.Algs(pub) {
		if _, ok := signingAlgorithms[alg]; ok {
			k.algs = append(k.algs, alg)
		}
	}
	if len(k.algs) == 0 {
		return nil, noUse(m)
	}
	s := &signKey{k}
	size := 1
	if hash := k.algs[0].Hash(); hash != 0 {
		size = hash.Size()
	}
	in := s.input(k.algs[0], make([]byte, size))
	in.DryRun = aws.Bool(true)
	return s, b.probe(ctx, k, classOf(pub), "Sign", func(ctx context.Context) error {
		_, err := b.client.Sign(ctx, in)
		return err
	})
}

// Sign implements [crypto.Signer].
func (k *signKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no context
}

// SignContext implements [signer.Signer]. For Ed25519, whose digest is the message,
// more than 4096 bytes are ErrInvalid. Of a message for ML-DSA, of whatever length,
// AWS is sent the mu.
func (k *signKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	alg, err := signer.CheckDigest(k.public, digest, opts)
	if err != nil {
		return nil, err
	}
	if err := k.has(alg); err != nil {
		return nil, err
	}
	in := k.input(alg, digest)
	if n := len(in.Message); n == 0 || n > maxMessage {
		return nil, tooLong(alg, n)
	}
	var sig []byte
	err = k.backend.call(ctx, classOf(k.public), "Sign", k.arn, func(ctx context.Context) error {
		out, err := k.backend.client.Sign(ctx, in)
		if err != nil {
			return err
		}
		if err := errors.Join(sameKey(out.KeyId, k.arn), sameAlg(out.SigningAlgorithm, in.SigningAlgorithm)); err != nil {
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

// input is what is sent to sign a digest, or for Ed25519 and ML-DSA a message.
func (k *signKey) input(alg signer.Alg, digest []byte) *kms.SignInput {
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

// tooLong is the error for a message that AWS does not take.
func tooLong(alg signer.Alg, size int) error {
	return fmt.Errorf("%w: AWS KMS takes the message of %s whole: 1 to %d bytes, not %d", signer.ErrInvalid, alg, maxMessage, size)
}
