//go:build !nogcp

package gcpkms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/cloud"
	"signetd/signer"
)

// The limits of Encrypt: on plaintext and additional data, each, or on both together
// for a key that is not in software.
const (
	maxPlaintext    = 64 << 10
	maxHSMPlaintext = 8 << 10
	maxBlob         = 1 << 20 // more than Encrypt can return
)

// A blobKey is a CryptoKey of purpose ENCRYPT_DECRYPT, or a version of one. Google
// finds the version that decrypts by the ciphertext.
type blobKey struct{ *key }

// EncryptBlob implements [signer.BlobCipher].
func (k blobKey) EncryptBlob(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	if len(plaintext) > maxPlaintext || len(aad) > maxPlaintext ||
		k.level != kmspb.ProtectionLevel_SOFTWARE && len(plaintext)+len(aad) > maxHSMPlaintext {
		return nil, fmt.Errorf("%w: %s encrypts 64 KiB at most, and 8 KiB with the additional data if the key is not of level SOFTWARE", signer.ErrInvalid, service)
	}
	req := &kmspb.EncryptRequest{
		Name: k.ref.String(), Plaintext: bytes.Clone(plaintext), PlaintextCrc32C: checksum(plaintext),
		AdditionalAuthenticatedData: bytes.Clone(aad), AdditionalAuthenticatedDataCrc32C: checksum(aad),
	}
	defer clear(req.GetPlaintext())
	var blob []byte
	err := k.backend.do(ctx, classCrypto, func(ctx context.Context) error {
		resp, err := k.backend.client.Encrypt(ctx, req)
		if err != nil {
			return err
		}
		if err := k.checkBlob(resp); err != nil {
			return err
		}
		blob = resp.GetCiphertext()
		return nil
	})
	if err != nil {
		return nil, k.failed(err)
	}
	return blob, nil
}

func (k blobKey) checkBlob(resp *kmspb.EncryptResponse) error {
	name := resp.GetName()
	if k.ref.version == 0 { // any version of the key is right
		if r, err := parseRef(name); err == nil && r.version != 0 && strings.HasPrefix(name, k.ref.key+"/") {
			name = k.ref.key
		}
	}
	if err := k.same(name, k.ref.String(), resp.GetProtectionLevel()); err != nil {
		return err
	}
	if !resp.GetVerifiedPlaintextCrc32C() || !resp.GetVerifiedAdditionalAuthenticatedDataCrc32C() {
		return cloud.Retry(errUnverified)
	}
	if len(resp.GetCiphertext()) == 0 {
		return cloud.Retry(errors.New("the answer has no ciphertext"))
	}
	return intact("ciphertext", resp.GetCiphertext(), resp.GetCiphertextCrc32C())
}

// DecryptBlob implements [signer.BlobCipher].
func (k blobKey) DecryptBlob(ctx context.Context, blob, aad []byte) ([]byte, error) {
	if len(blob) == 0 || len(blob) > maxBlob || len(aad) > maxPlaintext {
		return nil, signer.ErrDecrypt
	}
	req := &kmspb.DecryptRequest{
		Name: k.ref.key, Ciphertext: bytes.Clone(blob), CiphertextCrc32C: checksum(blob),
		AdditionalAuthenticatedData: bytes.Clone(aad), AdditionalAuthenticatedDataCrc32C: checksum(aad),
	}
	var plaintext []byte
	err := k.backend.do(ctx, classCrypto, func(ctx context.Context) error {
		resp, err := k.backend.client.Decrypt(ctx, req)
		if err != nil {
			return undecryptable(err)
		}
		// The answer has neither a name nor a word on what arrived: the ciphertext is
		// authenticated, and belongs to one key.
		if err := intact("plaintext", resp.GetPlaintext(), resp.GetPlaintextCrc32C()); err != nil {
			clear(resp.GetPlaintext())
			return err
		}
		plaintext = resp.GetPlaintext()
		return nil
	})
	return plaintext, k.notDecrypted(err)
}
