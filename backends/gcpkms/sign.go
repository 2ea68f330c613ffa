//go:build !nogcp

package gcpkms

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"slices"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/cloud"
	"signetd/signer"
	"signetd/signer/mldsa"
)

// A signKey is a version of purpose ASYMMETRIC_SIGN.
type signKey struct{ *key }

var _ signer.Signer = signKey{}

// Sign implements [crypto.Signer].
func (k signKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no context
}

// SignContext implements [signer.Signer]. For Ed25519 and ML-DSA, whose digest is the
// message, an empty message and one of more than 64 KiB are ErrInvalid. A message for
// an EXTERNAL_MU version has any length: Google is sent its mu (FIPS 204 algorithm 7,
// line 6).
func (k signKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) (sig []byte, err error) {
	alg, err := signer.CheckDigest(k.public, digest, opts)
	if err != nil {
		return nil, err
	}
	if err := k.has(alg); err != nil {
		return nil, err
	}
	if k.row.use != useSignMu {
		if err := checkMessage(alg, digest); err != nil {
			return nil, err
		}
	}

	req := k.request(alg, digest)
	err = k.call(ctx, func(ctx context.Context) error {
		resp, err := k.backend.client.AsymmetricSign(ctx, req)
		if err != nil {
			return err
		}

		verified := resp.GetVerifiedDataCrc32C()
		if req.GetDigest() != nil {
			verified = resp.GetVerifiedDigestCrc32C()
		}
		if err := k.checkAnswer(resp.GetName(), req.GetName(), resp.GetProtectionLevel(), verified); err != nil {
			return err
		}
		if err := checkCRC("signature", resp.GetSignature(), resp.GetSignatureCrc32C()); err != nil {
			return err
		}
		if err := cloud.Verify(k.public, alg, digest, resp.GetSignature()); err != nil {
			return cloud.Fail(fmt.Errorf("%s: %w", service, err))
		}
		sig = resp.GetSignature()
		return nil
	})
	return sig, err
}

// request asks for a signature in the way in which the version signs.
func (k signKey) request(alg signer.Alg, digest []byte) *kmspb.AsymmetricSignRequest {
	req := &kmspb.AsymmetricSignRequest{Name: k.ref.String()}
	switch k.row.use { //nolint:exhaustive // the others do not sign
	case useSignData:
		req.Data = slices.Clone(digest)
		req.DataCrc32C = checksum(req.GetData())

	case useSignRawPKCS1:
		req.Data = slices.Concat(digestInfo[alg.Hash()], digest)
		req.DataCrc32C = checksum(req.GetData())

	case useSignMu:
		if pub, ok := k.public.(*signer.AKP); ok { // readPublic has seen to that
			mu := mldsa.Mu(pub, digest)
			req.Digest, req.DigestCrc32C = &kmspb.Digest{Digest: &kmspb.Digest_ExternalMu{ExternalMu: mu}}, checksum(mu)
		}

	case useSignDigest:
		digest = slices.Clone(digest)
		req.Digest, req.DigestCrc32C = &kmspb.Digest{}, checksum(digest)
		switch alg.Hash() { //nolint:exhaustive // no algorithm of the table has another
		case crypto.SHA256:
			req.Digest.Digest = &kmspb.Digest_Sha256{Sha256: digest}
		case crypto.SHA384:
			req.Digest.Digest = &kmspb.Digest_Sha384{Sha384: digest}
		case crypto.SHA512:
			req.Digest.Digest = &kmspb.Digest_Sha512{Sha512: digest}
		}
	}
	return req
}

// digestInfo is what precedes the digest in a PKCS #1 v1.5 signature (RFC 8017
// section 9.2, note 1). RSA_SIGN_RAW_PKCS1 versions sign whatever they are sent.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// maxMessage is how long a message may be that Google is sent whole, in bytes. The API
// has this limit for Encrypt, and names none for AsymmetricSign and MacSign.
const maxMessage = 64 << 10

func checkMessage(alg signer.Alg, message []byte) error {
	if n := len(message); n == 0 || n > maxMessage {
		return fmt.Errorf("%w: %s takes a message of 1 to %d bytes for %s, not one of %d", signer.ErrInvalid, service, maxMessage, alg, n)
	}
	return nil
}
