//go:build !noaws

package awskms

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"signetd/backends/cloud"
	"signetd/signer"
)

// An agreeKey is a key of usage KEY_AGREEMENT.
type agreeKey struct {
	*key
	curve ecdh.Curve
	size  int // of the shared secret, in bytes
}

var _ signer.Agreer = agreeKey{}

func (k *key) openAgree(ctx context.Context, m *types.KeyMetadata) (signer.Key, error) {
	ec, ok := k.public.(*ecdsa.PublicKey)
	if !ok || signer.ECDHES.Fits(ec) != nil {
		return nil, noUse(m)
	}
	own, err := ec.ECDH()
	if err != nil {
		return nil, noUse(m)
	}
	k.class, k.algs = classECC, []signer.Alg{signer.ECDHES, signer.ECDHESA128KW, signer.ECDHESA192KW, signer.ECDHESA256KW}

	a := agreeKey{k, own.Curve(), (ec.Curve.Params().BitSize + 7) / 8}
	in, err := a.input(own)
	if err != nil {
		return nil, err
	}
	in.DryRun = aws.Bool(true)
	return a, probe(ctx, k, "DeriveSharedSecret", k.backend.client.DeriveSharedSecret, in)
}

func (k agreeKey) input(peer *ecdh.PublicKey) (*kms.DeriveSharedSecretInput, error) {
	spki, err := x509.MarshalPKIXPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("awskms: %w", err)
	}
	return &kms.DeriveSharedSecretInput{KeyId: aws.String(k.arn), KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: spki}, nil
}

// AgreeContext implements [signer.Agreer].
func (k agreeKey) AgreeContext(ctx context.Context, peer *ecdh.PublicKey) (z []byte, err error) {
	if peer == nil || peer.Curve() != k.curve {
		return nil, signer.ErrDecrypt
	}
	in, err := k.input(peer)
	if err != nil {
		return nil, err
	}

	err = k.call(ctx, "DeriveSharedSecret", func(ctx context.Context) error {
		out, err := k.backend.client.DeriveSharedSecret(ctx, in)
		if err != nil {
			return err
		}
		if err := checkAnswer(out.KeyId, k.arn, out.KeyAgreementAlgorithm, in.KeyAgreementAlgorithm); err != nil {
			clear(out.SharedSecret)
			return err
		}
		if len(out.SharedSecret) != k.size {
			clear(out.SharedSecret)
			return cloud.Retry(fmt.Errorf("an answer with a shared secret of %d bytes, not %d", len(out.SharedSecret), k.size))
		}
		z = out.SharedSecret
		return nil
	})
	return z, err
}
