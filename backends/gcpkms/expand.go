//go:build !nogcp

package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/iterator"

	"signetd/backends/cloud"
	"signetd/signer"
)

// Expand implements [signer.Expander]. It lists the enabled versions of the CryptoKey
// that ref names, the newest first, each with the time at which Google made it. A ref
// that names one version stands for itself alone, and so does a CryptoKey that
// encrypts, which Google rotates by itself.
func (b *Backend) Expand(ctx context.Context, name string) ([]signer.Expanded, error) {
	r, err := parseRef(name)
	if err != nil {
		return nil, err
	}
	if r.version != 0 {
		return []signer.Expanded{{Ref: name}}, nil
	}
	expanded, err := b.expand(ctx, r)
	if err != nil {
		return nil, atOpen(r.key, err)
	}
	return expanded, nil
}

// expand is Expand for the ref of a CryptoKey. Without an error there is at least one
// version.
func (b *Backend) expand(ctx context.Context, r ref) ([]signer.Expanded, error) {
	versions, err := b.list(ctx, r.key)
	if err != nil {
		return nil, err
	}

	var expanded []signer.Expanded
	for _, v := range versions {
		if v.GetState() != kmspb.CryptoKeyVersion_ENABLED {
			continue
		}
		if rowOf(v.GetAlgorithm().String()).use == useBlob {
			return []signer.Expanded{{Ref: r.key}}, nil
		}
		expanded = append(expanded, signer.Expanded{Ref: v.GetName(), NotBefore: v.GetCreateTime().AsTime()})
	}
	if len(expanded) == 0 {
		return nil, fmt.Errorf("%w: it has no enabled version (of %d)", signer.ErrUnavailable, len(versions))
	}
	return expanded, nil
}

// maxVersions bounds the versions of a CryptoKey that are listed.
const maxVersions = 10000

// list returns the versions of a CryptoKey, the one with the highest number first. It
// asks for all of them, because not every server knows filter and page_size.
func (b *Backend) list(ctx context.Context, key string) ([]*kmspb.CryptoKeyVersion, error) {
	versions := map[int]*kmspb.CryptoKeyVersion{}
	err := b.call(ctx, classControl, func(ctx context.Context) error {
		clear(versions)
		it := b.client.ListCryptoKeyVersions(ctx, &kmspb.ListCryptoKeyVersionsRequest{Parent: key})
		for {
			v, err := it.Next()
			switch {
			case errors.Is(err, iterator.Done):
				return nil
			case err != nil:
				return err
			}

			r, err := parseRef(v.GetName())
			if err != nil || r.key != key || r.version == 0 {
				return cloud.Retry(errors.New("the list has a version of another key"))
			}
			if versions[r.version] = v; len(versions) > maxVersions {
				return cloud.Fail(fmt.Errorf("%w: more than %d versions", signer.ErrUnsupported, maxVersions))
			}
		}
	})
	if err != nil {
		return nil, err
	}

	var sorted []*kmspb.CryptoKeyVersion
	for _, number := range slices.Backward(slices.Sorted(maps.Keys(versions))) {
		sorted = append(sorted, versions[number])
	}
	return sorted, nil
}
