//go:build !nogcp

package gcpkms

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/cloud"
	"signetd/signer"
)

// A macKey is a version of purpose MAC. It does one algorithm.
type macKey struct{ *key }

var _ signer.MACer = macKey{}

// MACContext implements [signer.MACer]. An empty message and one of more than 64 KiB
// are ErrInvalid. There is no public half to verify the MAC with: its checksum and
// length, and the version that Google names, are checked.
func (k macKey) MACContext(ctx context.Context, message []byte, hash crypto.Hash) (mac []byte, err error) {
	alg := k.row.algs[0]
	if hash != alg.Hash() {
		return nil, fmt.Errorf("%w: HMAC with %v: %s made this version for %s", signer.ErrUnsupported, hash, service, k.row.algorithm)
	}
	if err := checkMessage(alg, message); err != nil {
		return nil, err
	}

	req := &kmspb.MacSignRequest{Name: k.ref.String(), Data: bytes.Clone(message), DataCrc32C: checksum(message)}
	err = k.call(ctx, func(ctx context.Context) error {
		resp, err := k.backend.client.MacSign(ctx, req)
		if err != nil {
			return err
		}
		if err := k.checkAnswer(resp.GetName(), req.GetName(), resp.GetProtectionLevel(), resp.GetVerifiedDataCrc32C()); err != nil {
			return err
		}
		if err := checkCRC("MAC", resp.GetMac(), resp.GetMacCrc32C()); err != nil {
			return err
		}
		if len(resp.GetMac()) != hash.Size() {
			return cloud.Retry(fmt.Errorf("the MAC has %d bytes, not %d: withheld", len(resp.GetMac()), hash.Size()))
		}
		mac = resp.GetMac()
		return nil
	})
	return mac, err
}

// The limits of Encrypt and Decrypt, in bytes: of the plaintext and of the additional
// data, each, or of both together for a key that is not of level SOFTWARE.
const (
	maxPlaintext    = 64 << 10
	maxHSMPlaintext = 8 << 10
	maxBlob         = 1 << 20 // more than Encrypt can return
)

// A blobKey is a CryptoKey of purpose ENCRYPT_DECRYPT, or a version of one. Google
// finds the version that decrypts by the ciphertext.
type blobKey struct{ *key }

var _ signer.BlobCipher = blobKey{}

// EncryptBlob implements [signer.BlobCipher].
func (k blobKey) EncryptBlob(ctx context.Context, plaintext, aad []byte) (blob []byte, err error) {
	if len(plaintext) > maxPlaintext || len(aad) > maxPlaintext ||
		k.level != kmspb.ProtectionLevel_SOFTWARE && len(plaintext)+len(aad) > maxHSMPlaintext {
		return nil, fmt.Errorf("%w: %s encrypts 64 KiB at most, and 8 KiB with the additional data if the key is not of level SOFTWARE", signer.ErrInvalid, service)
	}

	req := &kmspb.EncryptRequest{
		Name: k.ref.String(), Plaintext: bytes.Clone(plaintext), PlaintextCrc32C: checksum(plaintext),
		AdditionalAuthenticatedData: bytes.Clone(aad), AdditionalAuthenticatedDataCrc32C: checksum(aad),
	}
	defer clear(req.GetPlaintext())
	err = k.call(ctx, func(ctx context.Context) error {
		resp, err := k.backend.client.Encrypt(ctx, req)
		if err != nil {
			return err
		}

		// A request that names a CryptoKey is answered by any of its versions.
		name := resp.GetName()
		if k.ref.version == 0 {
			if r, err := parseRef(name); err == nil && r.version != 0 && strings.HasPrefix(name, k.ref.key+"/") {
				name = k.ref.key
			}
		}
		verified := resp.GetVerifiedPlaintextCrc32C() && resp.GetVerifiedAdditionalAuthenticatedDataCrc32C()
		if err := k.checkAnswer(name, k.ref.String(), resp.GetProtectionLevel(), verified); err != nil {
			return err
		}

		if len(resp.GetCiphertext()) == 0 {
			return cloud.Retry(errors.New("the answer has no ciphertext"))
		}
		if err := checkCRC("ciphertext", resp.GetCiphertext(), resp.GetCiphertextCrc32C()); err != nil {
			return err
		}
		blob = resp.GetCiphertext()
		return nil
	})
	return blob, err
}

// DecryptBlob implements [signer.BlobCipher].
func (k blobKey) DecryptBlob(ctx context.Context, blob, aad []byte) (plaintext []byte, err error) {
	if len(blob) == 0 || len(blob) > maxBlob || len(aad) > maxPlaintext {
		return nil, signer.ErrDecrypt
	}

	req := &kmspb.DecryptRequest{
		Name: k.ref.key, Ciphertext: bytes.Clone(blob), CiphertextCrc32C: checksum(blob),
		AdditionalAuthenticatedData: bytes.Clone(aad), AdditionalAuthenticatedDataCrc32C: checksum(aad),
	}
	err = k.call(ctx, func(ctx context.Context) error {
		resp, err := k.backend.client.Decrypt(ctx, req)
		if err != nil {
			return decryptError(err)
		}

		// The answer neither names a key nor says what has arrived. It need not: the
		// ciphertext is authenticated, and belongs to one key.
		if err := checkCRC("plaintext", resp.GetPlaintext(), resp.GetPlaintextCrc32C()); err != nil {
			clear(resp.GetPlaintext())
			return err
		}
		plaintext = resp.GetPlaintext()
		return nil
	})
	return plaintext, err
}
