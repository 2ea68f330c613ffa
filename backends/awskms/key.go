//go:build !noaws

package awskms

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"signetd/backends/cloud"
	"signetd/signer"
)

// A key is what all keys have in common. [signKey], [decryptKey], [agreeKey],
// [macKey] and [blobKey] embed it and add the operations of the key's usage. It does
// not change once OpenKey has returned it.
type key struct {
	backend *Backend
	arn     string
	about   string // for Describe
	public  crypto.PublicKey
	algs    []signer.Alg
	class   string // of calls with the key
}

var (
	_ signer.AlgLister = (*key)(nil)
	_ signer.Describer = (*key)(nil)
)

// Public implements [signer.Key].
func (k *key) Public() crypto.PublicKey { return k.public }

// Algs implements [signer.AlgLister].
func (k *key) Algs() []signer.Alg { return slices.Clone(k.algs) }

// Describe implements [signer.Describer]: the key's ARN, type and usage, and the
// alias by which it was found.
func (k *key) Describe() string { return k.about }

// has returns ErrUnsupported for an algorithm that fits the public half and that AWS
// does not have.
func (k *key) has(alg signer.Alg) error {
	if !slices.Contains(k.algs, alg) {
		return fmt.Errorf("%w: %s does not do %s with this key", signer.ErrUnsupported, service, alg)
	}
	return nil
}

// call makes a call that uses the key; see [Backend.call].
func (k *key) call(ctx context.Context, op string, call func(ctx context.Context) error) error {
	return k.backend.call(ctx, k.class, op, k.arn, call)
}

// OpenKey implements [signer.Backend]. It reads the key's state, usage and public
// half, and tries what the key is for with DryRun. A key that AWS would not use now,
// or that the credentials may not use, is ErrUnavailable, and one that does nothing
// that JOSE has is ErrUnsupported, each with the reason.
func (b *Backend) OpenKey(ctx context.Context, ref string) (signer.Key, error) {
	id, isKey, err := parseRef(ref, b.region)
	if err != nil {
		return nil, fmt.Errorf("awskms: %w", err)
	}
	k, err := b.open(ctx, id, isKey)
	if err != nil {
		return nil, fmt.Errorf("awskms: %s: %w", id, err)
	}
	return k, nil
}

func (b *Backend) open(ctx context.Context, id string, isKey bool) (signer.Key, error) {
	m, err := b.describe(ctx, id)
	if err != nil {
		return nil, err
	}
	if isKey && *m.Arn != id {
		return nil, fmt.Errorf("%s describes another key, %s", service, *m.Arn)
	}
	if err := checkState(m); err != nil {
		return nil, err
	}

	// From here on the ARN is used and not the ref: an alias can be pointed elsewhere
	// between two calls, and the key must stay the one that was described.
	k := &key{backend: b, arn: *m.Arn, about: fmt.Sprintf("%s, %s for %s", *m.Arn, m.KeySpec, m.KeyUsage)}
	if !isKey {
		k.about += ", resolved from " + id
	}
	opened, err := k.withUsage(ctx, m)
	if err != nil {
		return nil, err
	}

	b.known.Store(&k.arn)
	return opened, nil
}

// describe reads what AWS says about a key.
func (b *Backend) describe(ctx context.Context, id string) (m *types.KeyMetadata, err error) {
	err = b.call(ctx, classControl, "DescribeKey", id, func(ctx context.Context) error {
		out, err := b.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(id)})
		if err != nil {
			return err
		}
		m = out.KeyMetadata
		if m == nil || !arnForm.MatchString(aws.ToString(m.Arn)) || m.KeySpec == "" || m.KeyUsage == "" || m.KeyState == "" {
			return cloud.Retry(errors.New("an answer without ARN, KeySpec, KeyUsage and KeyState"))
		}
		return nil
	})
	return m, err
}

// checkState returns ErrUnavailable for a key that AWS would not use, with what to do.
func checkState(m *types.KeyMetadata) error {
	var todo string
	switch m.KeyState {
	case types.KeyStateEnabled:
		return nil
	case types.KeyStateDisabled:
		todo = "enable it"
	case types.KeyStatePendingDeletion, types.KeyStatePendingReplicaDeletion:
		todo = "cancel its deletion, or take the version out of the config"
		if m.DeletionDate != nil {
			todo += "; it will be deleted on " + m.DeletionDate.UTC().Format("2006-01-02")
		}
	case types.KeyStatePendingImport:
		todo = "import its key material"
	case types.KeyStateCreating, types.KeyStateUpdating:
		todo = "wait a few minutes"
	case types.KeyStateUnavailable:
		todo = "connect its custom key store"
	default:
		todo = "look it up in AWS's table of key states"
	}
	return fmt.Errorf("%w: the key's state is %s: %s", signer.ErrUnavailable, m.KeyState, todo)
}

// withUsage returns k with the operations of its usage, after AWS has said that the
// credentials may use them.
func (k *key) withUsage(ctx context.Context, m *types.KeyMetadata) (signer.Key, error) {
	spec := string(m.KeySpec)
	isRSA, isEC := strings.HasPrefix(spec, "RSA_"), strings.HasPrefix(spec, "ECC_")

	var open func(context.Context, *types.KeyMetadata) (signer.Key, error)
	switch m.KeyUsage { //nolint:exhaustive // the others do nothing that JOSE has
	case types.KeyUsageTypeGenerateVerifyMac:
		return k.openMAC(ctx, m)
	case types.KeyUsageTypeEncryptDecrypt:
		if m.KeySpec == types.KeySpecSymmetricDefault {
			return k.openBlob(ctx)
		}
		if isRSA {
			open = k.openDecrypt
		}
	case types.KeyUsageTypeSignVerify:
		if isRSA || isEC || strings.HasPrefix(spec, "ML_DSA_") {
			open = k.openSign
		}
	case types.KeyUsageTypeKeyAgreement:
		if strings.HasPrefix(spec, "ECC_NIST_P") {
			open = k.openAgree
		}
	}
	if open == nil {
		return nil, noUse(m)
	}

	if err := k.readPublic(ctx, m); err != nil {
		return nil, err
	}
	return open(ctx, m)
}

// noUse is the error for a key that does nothing that JOSE has.
func noUse(m *types.KeyMetadata) error {
	return fmt.Errorf("%w: no algorithm of JOSE for a key of type %s and usage %s", signer.ErrUnsupported, m.KeySpec, m.KeyUsage)
}

// readPublic reads the public half of a key pair, once for the life of k.
func (k *key) readPublic(ctx context.Context, m *types.KeyMetadata) error {
	return k.backend.call(ctx, classControl, "GetPublicKey", k.arn, func(ctx context.Context) error {
		out, err := k.backend.client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(k.arn)})
		if err != nil {
			return err
		}
		if err := checkKey(out.KeyId, k.arn); err != nil {
			return err
		}
		if out.KeySpec != m.KeySpec || out.KeyUsage != m.KeyUsage {
			return cloud.Fail(fmt.Errorf("GetPublicKey and DescribeKey differ: %s for %s, and %s for %s", out.KeySpec, out.KeyUsage, m.KeySpec, m.KeyUsage))
		}

		if k.public, err = cloud.ParsePublicKey(out.PublicKey); err != nil {
			return cloud.Retry(errors.New("an answer without a public key"))
		}
		return nil
	})
}

// probe makes a call whose input says DryRun: AWS checks everything that it would
// check for a real one, the permissions included, and does nothing.
func probe[I, O any](ctx context.Context, k *key, op string, call func(context.Context, *I, ...func(*kms.Options)) (*O, error), in *I) error {
	return k.call(ctx, op, func(ctx context.Context) error {
		_, err := call(ctx, in)
		if codeOf(err) == "DryRunOperationException" {
			return nil
		}
		return err // nil from a server that does not know DryRun and has done it
	})
}
