//go:build !nogcp

package gcpkms

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"signetd/backends/cloud"
	"signetd/signer"
)

// A decryptKey is a version of purpose ASYMMETRIC_DECRYPT.
type decryptKey struct{ *key }

// Decrypt is DecryptContext without a deadline of the caller's.
func (k decryptKey) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no ctx
}

// DecryptContext decrypts with RSA-OAEP; see [signer.Decrypter].
func (k decryptKey) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	alg, err := signer.CheckCiphertext(k.public, ciphertext, opts)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(k.row.Algs, alg) {
		return nil, fmt.Errorf("%w: %s: %s", signer.ErrUnsupported, alg, k.Lacks(alg))
	}
	req := &kmspb.AsymmetricDecryptRequest{Name: k.ref.String(), Ciphertext: bytes.Clone(ciphertext), CiphertextCrc32C: checksum(ciphertext)}
	var plaintext []byte
	err = k.backend.do(ctx, classCrypto, func(ctx context.Context) error {
		resp, err := k.backend.client.AsymmetricDecrypt(ctx, req)
		if err != nil {
			return undecryptable(err)
		}
		if err := k.checkPlaintext(resp); err != nil {
			clear(resp.GetPlaintext())
			return err
		}
		plaintext = resp.GetPlaintext()
		return nil
	})
	return plaintext, k.notDecrypted(err)
}

func (k decryptKey) checkPlaintext(resp *kmspb.AsymmetricDecryptResponse) error {
	if err := k.same("", "", resp.GetProtectionLevel()); err != nil { // the answer has no name
		return err
	}
	if !resp.GetVerifiedCiphertextCrc32C() {
		return cloud.Retry(errUnverified)
	}
	return intact("plaintext", resp.GetPlaintext(), resp.GetPlaintextCrc32C())
}

// undecryptable turns what Google answers to a ciphertext that does not decrypt into
// ErrDecrypt. All else in the request is ours and right.
func undecryptable(err error) error {
	if status.Code(err) == codes.InvalidArgument {
		return cloud.Fail(signer.ErrDecrypt)
	}
	return err
}

// notDecrypted leaves ErrDecrypt bare.
func (k *key) notDecrypted(err error) error {
	if err == nil || errors.Is(err, signer.ErrDecrypt) {
		return err
	}
	return k.failed(err)
}
