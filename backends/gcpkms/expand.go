//go:build !nogcp

package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/iterator"

	"signetd/backends/cloud"
	"signetd/signer"
)

// maxVersions bounds the versions of a CryptoKey that are looked at.
const maxVersions = 10000

// Expand lists the enabled versions of the CryptoKey that ref names, the newest
// first. Each is active from the time that Google made it. A ref that names one
// version, or a CryptoKey that encrypts, which Google rotates by itself, stands for
// itself alone.
func (b *Backend) Expand(ctx context.Context, name string) ([]signer.Expanded, error) {
	r, err := parseRef(name)
	if err != nil {
		return nil, err
	}
	if r.version != 0 {
		return []signer.Expanded{{Ref: name}}, nil
	}
	versions, err := b.list(ctx, r.key)
	if err != nil {
		return nil, atOpen(r.key, err)
	}
	var expanded []signer.Expanded
	for _, v := range versions {
		if v.GetState() == kmspb.CryptoKeyVersion_ENABLED {
			if row(v.GetAlgorithm().String()).use == encryptBlob {
				return []signer.Expanded{{Ref: name}}, nil
			}
			expanded = append(expanded, signer.Expanded{Ref: v.GetName(), NotBefore: v.GetCreateTime().AsTime()})
		}
	}
	if len(expanded) == 0 {
		return nil, fmt.Errorf("%w: gcpkms: %s has no enabled version (of %d)", signer.ErrUnavailable, r.key, len(versions))
	}
	return expanded, nil
}

// newest returns the one version that a CryptoKey stands for when only one can be
// opened, and when that was made: r itself for a key that encrypts.
func (b *Backend) newest(ctx context.Context, r ref) (newest ref, made time.Time, err error) {
	expanded, err := b.Expand(ctx, r.String())
	if err != nil {
		return r, made, err
	}
	newest, err = parseRef(expanded[0].Ref)
	return newest, expanded[0].NotBefore, err
}

// list returns the versions of a CryptoKey, the one with the highest number first.
// It asks for all of them: not every server knows filter and page_size.
func (b *Backend) list(ctx context.Context, key string) ([]*kmspb.CryptoKeyVersion, error) {
	var versions []*kmspb.CryptoKeyVersion
	err := b.do(ctx, classRead, func(ctx context.Context) error {
		versions = versions[:0]
		it := b.client.ListCryptoKeyVersions(ctx, &kmspb.ListCryptoKeyVersionsRequest{Parent: key})
		for {
			v, err := it.Next()
			switch {
			case errors.Is(err, iterator.Done):
				return nil
			case err != nil:
				return err
			}
			if r, err := parseRef(v.GetName()); err != nil || r.key != key || r.version == 0 {
				return cloud.Retry(errors.New("the list has a version of another key"))
			}
			if versions = append(versions, v); len(versions) > maxVersions {
				return cloud.Fail(fmt.Errorf("%w: more than %d versions", signer.ErrUnsupported, maxVersions))
			}
		}
	})
	slices.SortFunc(versions, func(a, b *kmspb.CryptoKeyVersion) int { return number(b) - number(a) })
	return versions, err
}

// number is the number of a version whose name was read before.
func number(v *kmspb.CryptoKeyVersion) int {
	r, err := parseRef(v.GetName())
	if err != nil {
		return 0
	}
	return r.version
}

func (b *Backend) cryptoKey(ctx context.Context, name string) (c *kmspb.CryptoKey, err error) {
	err = b.do(ctx, classRead, func(ctx context.Context) (err error) {
		if c, err = b.client.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: name}); err != nil {
			return err
		}
		if c.GetName() != name {
			return cloud.Retry(errors.New("the answer names another key"))
		}
		return nil
	})
	return c, err
}
