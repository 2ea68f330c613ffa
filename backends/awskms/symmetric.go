//go:build !noaws

package awskms

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"signetd/backends/cloud"
	"signetd/signer"
)

// macAlgorithms are AWS's names. An HMAC key does one of them.
var macAlgorithms = map[signer.Alg]types.MacAlgorithmSpec{
	signer.HS256: types.MacAlgorithmSpecHmacSha256,
	signer.HS384: types.MacAlgorithmSpecHmacSha384,
	signer.HS512: types.MacAlgorithmSpecHmacSha512,
}

// hmacAlgs are what the types of HMAC key do. HMAC_224 has no name in JOSE.
var hmacAlgs = map[types.KeySpec]signer.Alg{
	types.KeySpecHmac256: signer.HS256,
	types.KeySpecHmac384: signer.HS384,
	types.KeySpecHmac512: signer.HS512,
}

// A macKey is a key of usage GENERATE_VERIFY_MAC. It does one algorithm.
type macKey struct {
	key
	alg signer.Alg
}

var _ signer.MACer = (*macKey)(nil)

func (b *Backend) makeMAC(ctx context.Context, k key, m *types.KeyMetadata) (signer.Key, error) {
	alg, ok := hmacAlgs[m.KeySpec]
	if !ok {
		return nil, noUse(m)
	}
	k.public, k.algs = signer.Secret{Type: signer.SecretHMAC, Size: alg.Hash().Size()}, []signer.Alg{alg}
	mac := &macKey{k, alg}
	in := mac.input([]byte("signetd"))
	in.DryRun = aws.Bool(true)
	return mac, b.probe(ctx, k, classSymmetric, "GenerateMac", func(ctx context.Context) error {
		_, err := b.client.GenerateMac(ctx, in)
		return err
	})
}

func (k *macKey) input(message []byte) *kms.GenerateMacInput {
	return &kms.GenerateMacInput{KeyId: aws.String(k.arn), MacAlgorithm: macAlgorithms[k.alg], Message: message}
}

// MACContext implements [signer.MACer]. A message of more than 4096 bytes, or of
// none, is ErrInvalid.
func (k *macKey) MACContext(ctx context.Context, message []byte, hash crypto.Hash) (mac []byte, err error) {
	if hash != k.alg.Hash() {
		return nil, fmt.Errorf("%w: this key of AWS KMS does %s and no other MAC", signer.ErrUnsupported, k.alg)
	}
	if len(message) == 0 || len(message) > maxMessage {
		return nil, tooLong(k.alg, len(message))
	}
	in := k.input(message)
	err = k.backend.call(ctx, classSymmetric, "GenerateMac", k.arn, func(ctx context.Context) error {
		out, err := k.backend.client.GenerateMac(ctx, in)
		if err != nil {
			return err
		}
		if err := errors.Join(sameKey(out.KeyId, k.arn), sameAlg(out.MacAlgorithm, in.MacAlgorithm)); err != nil {
			return err
		}
		if len(out.Mac) != hash.Size() {
			return cloud.Retry(fmt.Errorf("an answer with a MAC of %d bytes, not %d", len(out.Mac), hash.Size()))
		}
		mac = out.Mac
		return nil
	})
	return mac, err
}

// The limits of Encrypt and Decrypt with symmetric keys. AWS counts the encryption
// context as the JSON of its members.
const (
	maxPlaintext = 4096
	maxBlob      = 6144
	maxAAD       = 4096
)

// aadMember is the name under which the encryption context has the aad, in base64.
// AWS writes the context to CloudTrail.
const aadMember = "aad"

// A blobKey is a symmetric key of usage ENCRYPT_DECRYPT.
type blobKey struct{ key }

var _ signer.BlobCipher = (*blobKey)(nil)

// makeBlob tries both operations: Encrypt for good, to have something for Decrypt.
func (b *Backend) makeBlob(ctx context.Context, k key) (signer.Key, error) {
	k.public = signer.Secret{Type: signer.SecretBlob, Size: 32}
	c := &blobKey{k}
	blob, err := c.EncryptBlob(ctx, []byte("signetd"), nil)
	if err != nil {
		return nil, err
	}
	in := c.input(blob, nil)
	in.DryRun = aws.Bool(true)
	return c, b.probe(ctx, k, classSymmetric, "Decrypt", func(ctx context.Context) error {
		_, err := b.client.Decrypt(ctx, in)
		return err
	})
}

func (k *blobKey) input(blob, aad []byte) *kms.DecryptInput {
	return &kms.DecryptInput{
		KeyId: aws.String(k.arn), CiphertextBlob: blob,
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault, EncryptionContext: encryptionContext(aad),
	}
}

// encryptionContext is the aad as AWS has it: strings that are bound to the blob.
func encryptionContext(aad []byte) map[string]string {
	if len(aad) == 0 {
		return nil
	}
	return map[string]string{aadMember: base64.StdEncoding.EncodeToString(aad)}
}

// EncryptBlob implements [signer.BlobCipher]. The plaintext has 1 to 4096 bytes, and
// aad as many at most.
func (k *blobKey) EncryptBlob(ctx context.Context, plaintext, aad []byte) (blob []byte, err error) {
	if len(plaintext) == 0 || len(plaintext) > maxPlaintext || len(aad) > maxAAD {
		return nil, fmt.Errorf("%w: AWS KMS encrypts 1 to %d bytes with %d bytes of additional data at most, not %d with %d", signer.ErrInvalid, maxPlaintext, maxAAD, len(plaintext), len(aad))
	}
	in := &kms.EncryptInput{
		KeyId: aws.String(k.arn), Plaintext: plaintext,
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault, EncryptionContext: encryptionContext(aad),
	}
	err = k.backend.call(ctx, classSymmetric, "Encrypt", k.arn, func(ctx context.Context) error {
		out, err := k.backend.client.Encrypt(ctx, in)
		if err != nil {
			return err
		}
		if err := errors.Join(sameKey(out.KeyId, k.arn), sameAlg(out.EncryptionAlgorithm, in.EncryptionAlgorithm)); err != nil {
			return err
		}
		if len(out.CiphertextBlob) == 0 {
			return cloud.Retry(errors.New("an answer without a ciphertext"))
		}
		blob = out.CiphertextBlob
		return nil
	})
	return blob, err
}

// DecryptBlob implements [signer.BlobCipher].
func (k *blobKey) DecryptBlob(ctx context.Context, blob, aad []byte) ([]byte, error) {
	if len(blob) == 0 || len(blob) > maxBlob || len(aad) > maxAAD {
		return nil, signer.ErrDecrypt
	}
	return k.backend.decrypt(ctx, classSymmetric, k.arn, k.input(blob, aad))
}
