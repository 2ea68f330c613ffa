//go:build !nogcp

package gcpkms

import (
	"bytes"
	"context"
	"crypto"
	"fmt"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/cloud"
	"signetd/signer"
)

// A macKey is a version of purpose MAC.
type macKey struct{ *key }

// MACContext makes a MAC; see [signer.MACer]. There is no public half to verify it
// with: what is checked is that it is whole, that it is as long as the hash, and
// that Google says it is of the version that was asked.
func (k macKey) MACContext(ctx context.Context, message []byte, hash crypto.Hash) ([]byte, error) {
	if want := k.row.Algs[0].Hash(); hash != want {
		return nil, fmt.Errorf("%w: HMAC with %v: Google Cloud KMS made this version for %s", signer.ErrUnsupported, hash, k.row.Algorithm)
	}
	if err := checkData(message); err != nil {
		return nil, err
	}
	req := &kmspb.MacSignRequest{Name: k.ref.String(), Data: bytes.Clone(message), DataCrc32C: checksum(message)}
	var mac []byte
	err := k.backend.do(ctx, classCrypto, func(ctx context.Context) error {
		resp, err := k.backend.client.MacSign(ctx, req)
		if err != nil {
			return err
		}
		if err := k.same(resp.GetName(), req.GetName(), resp.GetProtectionLevel()); err != nil {
			return err
		}
		if !resp.GetVerifiedDataCrc32C() {
			return cloud.Retry(errUnverified)
		}
		if err := intact("MAC", resp.GetMac(), resp.GetMacCrc32C()); err != nil {
			return err
		}
		if len(resp.GetMac()) != hash.Size() {
			return cloud.Retry(fmt.Errorf("the MAC has %d bytes, not %d: withheld", len(resp.GetMac()), hash.Size()))
		}
		mac = resp.GetMac()
		return nil
	})
	if err != nil {
		return nil, k.failed(err)
	}
	return mac, nil
}
