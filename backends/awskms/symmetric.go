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

// hmacAlgs are the algorithms of the types of HMAC key. JOSE has none for HMAC_224.
var hmacAlgs = map[types.KeySpec]signer.Alg{
	types.KeySpecHmac256: signer.HS256,
	types.KeySpecHmac384: signer.HS384,
	types.KeySpecHmac512: signer.HS512,
}

// A macKey is a key of usage GENERATE_VERIFY_MAC. It does one algorithm.
type macKey struct{ *key }

var _ signer.MACer = macKey{}

func (k *key) openMAC(ctx context.Context, m *types.KeyMetadata) (signer.Key, error) {
	alg, ok := hmacAlgs[m.KeySpec]
	if !ok {
		return nil, noUse(m)
	}
	k.public = signer.Secret{Type: signer.SecretHMAC, Size: alg.Hash().Size()}
	k.class, k.algs = classSymmetric, []signer.Alg{alg}

	mac := macKey{k}
	in := mac.input([]byte("signetd"))
	in.DryRun = aws.Bool(true)
	return mac, probe(ctx, k, "GenerateMac", k.backend.client.GenerateMac, in)
}

func (k macKey) input(message []byte) *kms.GenerateMacInput {
	return &kms.GenerateMacInput{KeyId: aws.String(k.arn), MacAlgorithm: macAlgorithms[k.algs[0]], Message: message}
}

// MACContext implements [signer.MACer]. An empty message and one of more than 4096
// bytes are ErrInvalid. There is no public half to verify the MAC with: its length,
// and the key and algorithm that AWS names, are checked.
func (k macKey) MACContext(ctx context.Context, message []byte, hash crypto.Hash) (mac []byte, err error) {
	alg := k.algs[0]
	if hash != alg.Hash() {
		return nil, fmt.Errorf("%w: this key of %s does %s and no other MAC", signer.ErrUnsupported, service, alg)
	}
	if err := checkMessage(alg, message); err != nil {
		return nil, err
	}

	in := k.input(message)
	err = k.call(ctx, "GenerateMac", func(ctx context.Context) error {
		out, err := k.backend.client.GenerateMac(ctx, in)
		if err != nil {
			return err
		}
		if err := checkAnswer(out.KeyId, k.arn, out.MacAlgorithm, in.MacAlgorithm); err != nil {
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

// The limits of Encrypt and Decrypt with symmetric keys, in bytes. AWS counts the
// encryption context as the JSON of its members.
const (
	maxPlaintext = 4096
	maxBlob      = 6144
	maxAAD       = 4096
)

// A blobKey is a symmetric key of usage ENCRYPT_DECRYPT.
type blobKey struct{ *key }

var _ signer.BlobCipher = blobKey{}

// openBlob encrypts for real, because the DryRun of Decrypt needs a ciphertext.
func (k *key) openBlob(ctx context.Context) (signer.Key, error) {
	k.public, k.class = signer.Secret{Type: signer.SecretBlob, Size: 32}, classSymmetric

	c := blobKey{k}
	blob, err := c.EncryptBlob(ctx, []byte("signetd"), nil)
	if err != nil {
		return nil, err
	}
	in := c.input(blob, nil)
	in.DryRun = aws.Bool(true)
	return c, probe(ctx, k, "Decrypt", k.backend.client.Decrypt, in)
}

func (k blobKey) input(blob, aad []byte) *kms.DecryptInput {
	return &kms.DecryptInput{
		KeyId: aws.String(k.arn), CiphertextBlob: blob,
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault, EncryptionContext: encryptionContext(aad),
	}
}

// encryptionContext returns aad in the form that AWS has for it: strings with names,
// which it binds to the blob and writes to CloudTrail.
func encryptionContext(aad []byte) map[string]string {
	if len(aad) == 0 {
		return nil
	}
	return map[string]string{"aad": base64.StdEncoding.EncodeToString(aad)}
}

// EncryptBlob implements [signer.BlobCipher]. The plaintext has 1 to 4096 bytes, and
// aad has 4096 at most.
func (k blobKey) EncryptBlob(ctx context.Context, plaintext, aad []byte) (blob []byte, err error) {
	if len(plaintext) == 0 || len(plaintext) > maxPlaintext || len(aad) > maxAAD {
		return nil, fmt.Errorf("%w: %s encrypts 1 to %d bytes with at most %d bytes of additional data, not %d with %d", signer.ErrInvalid, service, maxPlaintext, maxAAD, len(plaintext), len(aad))
	}

	in := &kms.EncryptInput{
		KeyId: aws.String(k.arn), Plaintext: plaintext,
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault, EncryptionContext: encryptionContext(aad),
	}
	err = k.call(ctx, "Encrypt", func(ctx context.Context) error {
		out, err := k.backend.client.Encrypt(ctx, in)
		if err != nil {
			return err
		}
		if err := checkAnswer(out.KeyId, k.arn, out.EncryptionAlgorithm, in.EncryptionAlgorithm); err != nil {
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
func (k blobKey) DecryptBlob(ctx context.Context, blob, aad []byte) ([]byte, error) {
	if len(blob) == 0 || len(blob) > maxBlob || len(aad) > maxAAD {
		return nil, signer.ErrDecrypt
	}
	return k.decrypt(ctx, k.input(blob, aad))
}
