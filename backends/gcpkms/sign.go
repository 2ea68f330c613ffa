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

// digestInfo is what precedes the digest in a PKCS #1 v1.5 signature (RFC 8017
// section 9.2, note 1). RSA_SIGN_RAW_PKCS1 versions sign whatever they are sent.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// A signKey is a version of purpose ASYMMETRIC_SIGN.
type signKey struct{ *key }

// Sign is SignContext without a deadline of the caller's. The service has its own
// randomness.
func (k signKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no ctx
}

// SignContext signs a digest, or for Ed25519 and ML-DSA the message; see
// [signer.Signer].
func (k signKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	alg, err := signer.CheckDigest(k.public, digest, opts)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(k.row.Algs, alg) {
		return nil, fmt.Errorf("%w: %s: %s", signer.ErrUnsupported, alg, k.Lacks(alg))
	}
	if k.row.use != signMu {
		if err := checkData(digest); err != nil {
			return nil, err
		}
	}
	req := k.request(alg, digest)
	var sig []byte
	err = k.backend.do(ctx, classCrypto, func(ctx context.Context) error {
		resp, err := k.backend.client.AsymmetricSign(ctx, req)
		if err != nil {
			return err
		}
		if err := k.checkSignature(req, resp); err != nil {
			return err
		}
		if err := cloud.Verify(k.public, alg, digest, resp.GetSignature()); err != nil {
			return cloud.Fail(fmt.Errorf("%s: %w", service, err))
		}
		sig = resp.GetSignature()
		return nil
	})
	if err != nil {
		return nil, k.failed(err)
	}
	return sig, nil
}

// maxData bounds a message that is sent as it is. It is the limit of Encrypt: the
// API names none for AsymmetricSign and MacSign.
const maxData = 64 << 10

func checkData(message []byte) error {
	if n := len(message); n == 0 || n > maxData {
		return fmt.Errorf("%w: %s signs messages of 1 to %d bytes with this key, not %d", signer.ErrInvalid, service, maxData, n)
	}
	return nil
}

// request asks for a signature in the way that the version wants it.
func (k signKey) request(alg signer.Alg, digest []byte) *kmspb.AsymmetricSignRequest {
	req := &kmspb.AsymmetricSignRequest{Name: k.ref.String()}
	switch k.row.use { //nolint:exhaustive // the others do not sign
	case signData:
		req.Data = slices.Clone(digest)
	case signMu:
		mu := k.mu(digest)
		req.Digest, req.DigestCrc32C = &kmspb.Digest{Digest: &kmspb.Digest_ExternalMu{ExternalMu: mu}}, checksum(mu)
		return req
	case signRawPKCS1:
		req.Data = slices.Concat(digestInfo[alg.Hash()], digest)
	default:
		req.Digest, req.DigestCrc32C = digestOf(alg.Hash(), slices.Clone(digest)), checksum(digest)
		return req
	}
	req.DataCrc32C = checksum(req.GetData())
	return req
}

// mu is what an EXTERNAL_MU version is sent of a message.
func (k signKey) mu(message []byte) []byte {
	pub, ok := k.public.(*signer.AKP)
	if !ok {
		return nil // it was opened with one
	}
	return mldsa.Mu(pub, message)
}

func digestOf(hash crypto.Hash, digest []byte) *kmspb.Digest {
	switch hash { //nolint:exhaustive // no algorithm of the table has another
	case crypto.SHA384:
		return &kmspb.Digest{Digest: &kmspb.Digest_Sha384{Sha384: digest}}
	case crypto.SHA512:
		return &kmspb.Digest{Digest: &kmspb.Digest_Sha512{Sha512: digest}}
	default:
		return &kmspb.Digest{Digest: &kmspb.Digest_Sha256{Sha256: digest}}
	}
}

// checkSignature checks all of an answer but the signature itself.
func (k signKey) checkSignature(req *kmspb.AsymmetricSignRequest, resp *kmspb.AsymmetricSignResponse) error {
	if err := k.same(resp.GetName(), req.GetName(), resp.GetProtectionLevel()); err != nil {
		return err
	}
	verified := resp.GetVerifiedDataCrc32C()
	if req.GetDigest() != nil {
		verified = resp.GetVerifiedDigestCrc32C()
	}
	if !verified {
		return cloud.Retry(errUnverified)
	}
	return intact("signature", resp.GetSignature(), resp.GetSignatureCrc32C())
}

// failed puts the version's name before an error of the service.
func (k *key) failed(err error) error {
	return fmt.Errorf("gcpkms: %v: %w", k.ref, err)
}
