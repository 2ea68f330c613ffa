//go:build !noaws

package awskms

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"signetd/backends/cloud"
	"signetd/signer"
)

// encryptionAlgorithms are AWS's names. It has no OAEP with SHA-384 or SHA-512.
var encryptionAlgorithms = map[signer.Alg]types.EncryptionAlgorithmSpec{
	signer.RSAOAEP:    types.EncryptionAlgorithmSpecRsaesOaepSha1,
	signer.RSAOAEP256: types.EncryptionAlgorithmSpecRsaesOaepSha256,
}

// A decryptKey is an RSA key of usage ENCRYPT_DECRYPT.
type decryptKey struct{ key }

var _ signer.Decrypter = (*decryptKey)(nil)

func (b *Backend) makeDecrypt(ctx context.Context, k key, m *types.KeyMetadata, pub crypto.PublicKey) (signer.Key, error) {
	k.public, k.algs = pub, []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256}
	own, ok := pub.(*rsa.PublicKey)
	if !ok || signer.RSAOAEP256.Fits(pub) != nil {
		return nil, noUse(m)
	}
	ciphertext, err := rsa.EncryptOAEPWithOptions(rand.Reader, own, []byte("signetd"), signer.RSAOAEP256.DecrypterOpts())
	if err != nil {
		return nil, err
	}
	d := &decryptKey{k}
	in := d.input(signer.RSAOAEP256, ciphertext)
	in.DryRun = aws.Bool(true)
	return d, b.probe(ctx, k, classRSA, "Decrypt", func(ctx context.Context) error {
		_, err := b.client.Decrypt(ctx, in)
		return err
	})
}

// Decrypt implements [crypto.Decrypter].
func (k *decryptKey) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no context
}

// DecryptContext implements [signer.Decrypter].
func (k *decryptKey) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	alg, err := signer.CheckCiphertext(k.public, ciphertext, opts)
	if err != nil {
		return nil, err
	}
	if err := k.has(alg); err != nil {
		return nil, err
	}
	return k.backend.decrypt(ctx, classRSA, k.arn, k.input(alg, ciphertext))
}

func (k *decryptKey) input(alg signer.Alg, ciphertext []byte) *kms.DecryptInput {
	return &kms.DecryptInput{KeyId: aws.String(k.arn), CiphertextBlob: ciphertext, EncryptionAlgorithm: encryptionAlgorithms[alg]}
}

// decrypt is Decrypt of the key with the given ARN.
func (b *Backend) decrypt(ctx context.Context, class, arn string, in *kms.DecryptInput) (plaintext []byte, err error) {
	err = b.call(ctx, class, "Decrypt", arn, func(ctx context.Context) error {
		out, err := b.client.Decrypt(ctx, in)
		if err != nil {
			return err
		}
		if err := errors.Join(sameKey(out.KeyId, arn), sameAlg(out.EncryptionAlgorithm, in.EncryptionAlgorithm)); err != nil {
			clear(out.Plaintext)
			return err
		}
		if out.Plaintext == nil {
			return cloud.Retry(errors.New("an answer without a plaintext"))
		}
		plaintext = out.Plaintext
		return nil
	})
	return plaintext, err
}

// An agreeKey is a key of usage KEY_AGREEMENT.
type agreeKey struct {
	key
	curve ecdh.Curve
	size  int // of the shared secret
}

var _ signer.Agreer = (*agreeKey)(nil)

func (b *Backend) makeAgree(ctx context.Context, k key, m *types.KeyMetadata, pub crypto.PublicKey) (signer.Key, error) {
	k.public, k.algs = pub, []signer.Alg{signer.ECDHES, signer.ECDHESA128KW, signer.ECDHESA192KW, signer.ECDHESA256KW}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok || signer.ECDHES.Fits(pub) != nil {
		return nil, noUse(m)
	}
	own, err := ec.ECDH()
	if err != nil {
		return nil, noUse(m)
	}
	a := &agreeKey{k, own.Curve(), (ec.Curve.Params().BitSize + 7) / 8}
	in, err := a.input(own)
	if err != nil {
		return nil, err
	}
	in.DryRun = aws.Bool(true)
	return a, b.probe(ctx, k, classECC, "DeriveSharedSecret", func(ctx context.Context) error {
		_, err := b.client.DeriveSharedSecret(ctx, in)
		return err
	})
}

func (k *agreeKey) input(peer *ecdh.PublicKey) (*kms.DeriveSharedSecretInput, error) {
	spki, err := x509.MarshalPKIXPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("awskms: %w", err)
	}
	return &kms.DeriveSharedSecretInput{KeyId: aws.String(k.arn), KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: spki}, nil
}

// AgreeContext implements [signer.Agreer].
func (k *agreeKey) AgreeContext(ctx context.Context, peer *ecdh.PublicKey) (z []byte, err error) {
	if peer == nil || peer.Curve() != k.curve {
		return nil, signer.ErrDecrypt
	}
	in, err := k.input(peer)
	if err != nil {
		return nil, err
	}
	err = k.backend.call(ctx, classECC, "DeriveSharedSecret", k.arn, func(ctx context.Context) error {
		out, err := k.backend.client.DeriveSharedSecret(ctx, in)
		if err != nil {
			return err
		}
		if err := errors.Join(sameKey(out.KeyId, k.arn), sameAlg(out.KeyAgreementAlgorithm, in.KeyAgreementAlgorithm)); err != nil {
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
