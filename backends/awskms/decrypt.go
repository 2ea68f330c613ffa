//go:build !noaws

package awskms

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
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
type decryptKey struct{ *key }

var _ signer.Decrypter = decryptKey{}

func (k *key) openDecrypt(ctx context.Context, m *types.KeyMetadata) (signer.Key, error) {
	own, ok := k.public.(*rsa.PublicKey)
	if !ok || signer.RSAOAEP256.Fits(own) != nil {
		return nil, noUse(m)
	}
	k.class, k.algs = classRSA, []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256}

	ciphertext, err := rsa.EncryptOAEPWithOptions(rand.Reader, own, []byte("signetd"), signer.RSAOAEP256.DecrypterOpts())
	if err != nil {
		return nil, err
	}
	d := decryptKey{k}
	in := d.input(signer.RSAOAEP256, ciphertext)
	in.DryRun = aws.Bool(true)
	return d, probe(ctx, k, "Decrypt", k.backend.client.Decrypt, in)
}

// Decrypt implements [crypto.Decrypter].
func (k decryptKey) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no context
}

// DecryptContext implements [signer.Decrypter].
func (k decryptKey) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	alg, err := signer.CheckCiphertext(k.public, ciphertext, opts)
	if err != nil {
		return nil, err
	}
	if err := k.has(alg); err != nil {
		return nil, err
	}
	return k.decrypt(ctx, k.input(alg, ciphertext))
}

func (k decryptKey) input(alg signer.Alg, ciphertext []byte) *kms.DecryptInput {
	return &kms.DecryptInput{KeyId: aws.String(k.arn), CiphertextBlob: ciphertext, EncryptionAlgorithm: encryptionAlgorithms[alg]}
}

// decrypt makes a call of Decrypt, for RSA and for symmetric keys.
func (k *key) decrypt(ctx context.Context, in *kms.DecryptInput) (plaintext []byte, err error) {
	err = k.call(ctx, "Decrypt", func(ctx context.Context) error {
		out, err := k.backend.client.Decrypt(ctx, in)
		if err != nil {
			return err
		}

		if err := checkAnswer(out.KeyId, k.arn, out.EncryptionAlgorithm, in.EncryptionAlgorithm); err != nil {
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
