//go:build !nogcp

package gcpkms

import (
	"bytes"
	"context"
	"crypto"
	"io"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"signetd/backends/cloud"
	"signetd/signer"
)

// A decryptKey is a version of purpose ASYMMETRIC_DECRYPT.
type decryptKey struct{ *key }

var _ signer.Decrypter = decryptKey{}

// Decrypt implements [crypto.Decrypter].
func (k decryptKey) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no context
}

// DecryptContext implements [signer.Decrypter].
func (k decryptKey) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) (plaintext []byte, err error) {
	alg, err := signer.CheckCiphertext(k.public, ciphertext, opts)
	if err != nil {
		return nil, err
	}
	if err := k.has(alg); err != nil {
		return nil, err
	}

	req := &kmspb.AsymmetricDecryptRequest{Name: k.ref.String(), Ciphertext: bytes.Clone(ciphertext), CiphertextCrc32C: checksum(ciphertext)}
	err = k.call(ctx, func(ctx context.Context) error {
		resp, err := k.backend.client.AsymmetricDecrypt(ctx, req)
		if err != nil {
			return decryptError(err)
		}

		err = k.checkAnswer("", "", resp.GetProtectionLevel(), resp.GetVerifiedCiphertextCrc32C()) // it has no name
		if err == nil {
			err = checkCRC("plaintext", resp.GetPlaintext(), resp.GetPlaintextCrc32C())
		}
		if err != nil {
			clear(resp.GetPlaintext())
			return err
		}
		plaintext = resp.GetPlaintext()
		return nil
	})
	return plaintext, err
}

// decryptError returns ErrDecrypt for Google's answer to a ciphertext that does not
// decrypt. It is InvalidArgument, which can mean nothing else: everything else in the
// request is written here, and right.
func decryptError(err error) error {
	if status.Code(err) == codes.InvalidArgument {
		return cloud.Fail(signer.ErrDecrypt)
	}
	return err
}
