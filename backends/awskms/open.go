//go:build !noaws

package awskms

import (
	"context"
	"crypto"
	"crypto/rsa"
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

// OpenKey implements [signer.Backend]. It reads the key's state, usage and public
// half, and tries what the key is for with DryRun. A key that AWS would not use now is
// ErrUnavailable, and one that has no use here ErrUnsupported, each with the reason.
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
	arn := *m.Arn
	if isKey && arn != id {
		return nil, fmt.Errorf("AWS KMS describes another key, %s", arn)
	}
	if err := checkState(m); err != nil {
		return nil, err
	}
	k := key{backend: b, arn: arn, about: fmt.Sprintf("%s, %s for %s", arn, m.KeySpec, m.KeyUsage)}
	if !isKey {
		k.about += ", resolved from " + id
	}
	opened, err := b.make(ctx, k, m)
	if err != nil {
		return nil, err
	}
	b.pinged.Store(&arn)
	return opened, nil
}

// describe reads what AWS says of a key.
func (b *Backend) describe(ctx context.Context, id string) (*types.KeyMetadata, error) {
	var m *types.KeyMetadata
	err := b.call(ctx, classControl, "DescribeKey", id, func(ctx context.Context) error {
		out, err := b.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(id)})
		if err != nil {
			return err
		}
		if m = out.KeyMetadata; m == nil || !arnForm.MatchString(aws.ToString(m.Arn)) || m.KeySpec == "" || m.KeyUsage == "" || m.KeyState == "" {
			return cloud.Retry(errors.New("an answer without ARN, KeySpec, KeyUsage and KeyState"))
		}
		return nil
	})
	return m, err
}

// checkState refuses a key that AWS would not use.
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
		todo = "see to its key store"
	default:
		todo = "see AWS's key states"
	}
	return fmt.Errorf("%w: the key's state is %s: %s", signer.ErrUnavailable, m.KeyState, todo)
}

// make returns the kind of key that usage and type ask for, proven to be permitted.
func (b *Backend) make(ctx context.Context, k key, m *types.KeyMetadata) (signer.Key, error) {
	switch m.KeyUsage { //nolint:exhaustive // the others have no algorithm here
	case types.KeyUsageTypeGenerateVerifyMac:
		return b.makeMAC(ctx, k, m)
	case types.KeyUsageTypeEncryptDecrypt:
		if m.KeySpec == types.KeySpecSymmetricDefault {
			return b.makeBlob(ctx, k)
		}
	}
	pub, err := b.publicKey(ctx, k.arn, m)
	if err != nil {
		return nil, err
	}
	switch m.KeyUsage { //nolint:exhaustive // the others have no algorithm here
	case types.KeyUsageTypeSignVerify:
		return b.makeSign(ctx, k, m, pub)
	case types.KeyUsageTypeEncryptDecrypt:
		return b.makeDecrypt(ctx, k, m, pub)
	default:
		return b.makeAgree(ctx, k, m, pub)
	}
}

// noUse is the error for a key that this backend has nothing to do with.
func noUse(m *types.KeyMetadata) error {
	return fmt.Errorf("%w: no algorithm of JOSE for a key of type %s and usage %s", signer.ErrUnsupported, m.KeySpec, m.KeyUsage)
}

// publicKey reads the public half of a key, once for the life of its version.
func (b *Backend) publicKey(ctx context.Context, arn string, m *types.KeyMetadata) (pub crypto.PublicKey, err error) {
	if !readable(m) {
		return nil, noUse(m)
	}
	err = b.call(ctx, classControl, "GetPublicKey", arn, func(ctx context.Context) error {
		out, err := b.client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(arn)})
		if err != nil {
			return err
		}
		if err := sameKey(out.KeyId, arn); err != nil {
			return err
		}
		if out.KeySpec != m.KeySpec || out.KeyUsage != m.KeyUsage {
			return cloud.Fail(fmt.Errorf("GetPublicKey and DescribeKey differ: %s for %s, and %s for %s", out.KeySpec, out.KeyUsage, m.KeySpec, m.KeyUsage))
		}
		if pub, err = cloud.ParsePublicKey(out.PublicKey); err != nil {
			return cloud.Retry(errors.New("an answer without a public key"))
		}
		return nil
	})
	return pub, err
}

// readable reports whether keys of the type and usage have a public half and an
// algorithm of JOSE.
func readable(m *types.KeyMetadata) bool {
	spec := string(m.KeySpec)
	rsa, ec, mldsa := strings.HasPrefix(spec, "RSA_"), strings.HasPrefix(spec, "ECC_"), strings.HasPrefix(spec, "ML_DSA_")
	switch m.KeyUsage { //nolint:exhaustive // the others have no algorithm here
	case types.KeyUsageTypeSignVerify:
		return rsa || ec || mldsa
	case types.KeyUsageTypeEncryptDecrypt:
		return rsa
	case types.KeyUsageTypeKeyAgreement:
		return strings.HasPrefix(spec, "ECC_NIST_P")
	}
	return false
}

// sameKey is an error unless an answer names the key that was asked for.
func sameKey(got *string, arn string) error {
	if got == nil {
		return cloud.Retry(errors.New("an answer that names no key"))
	}
	if *got != arn {
		return cloud.Fail(fmt.Errorf("the answer is another key's, %.100s: withheld", *got))
	}
	return nil
}

// sameAlg is an error unless an answer names the algorithm that was asked for.
func sameAlg[A ~string](got, want A) error {
	switch got {
	case want:
		return nil
	case "":
		return cloud.Retry(errors.New("an answer that names no algorithm"))
	default:
		return cloud.Fail(fmt.Errorf("the answer is of algorithm %.64s, not %s: withheld", got, want))
	}
}

// probe tries an operation with DryRun, for which AWS checks all but does nothing.
func (b *Backend) probe(ctx context.Context, k key, class, op string, call func(ctx context.Context) error) error {
	return b.call(ctx, class, op, k.arn, func(ctx context.Context) error {
		if err := call(ctx); code(err) != "DryRunOperationException" {
			return err // nil from a server that does not know DryRun, and did it
		}
		return nil
	})
}

// classOf is the quota that operations with a key pair count for.
func classOf(pub crypto.PublicKey) string {
	switch pub.(type) {
	case *rsa.PublicKey:
		return classRSA
	case *signer.AKP:
		return classMLDSA
	default:
		return classECC
	}
}

// A key is what all keys have.
type key struct {
	backend *Backend
	arn     string
	about   string
	public  crypto.PublicKey
	algs    []signer.Alg
}

var (
	_ signer.AlgLister = (*key)(nil)
	_ signer.Describer = (*key)(nil)
)

// Public implements [signer.Key].
func (k *key) Public() crypto.PublicKey { return k.public }

// Algs implements [signer.AlgLister].
func (k *key) Algs() []signer.Alg { return slices.Clone(k.algs) }

// Describe implements [signer.Describer]: the key's ARN, type and usage, and of an
// alias that it came from.
func (k *key) Describe() string { return k.about }

// has returns ErrUnsupported for an algorithm that fits the public half and is none
// of AWS's.
func (k *key) has(alg signer.Alg) error {
	if !slices.Contains(k.algs, alg) {
		return fmt.Errorf("%w: AWS KMS does not do %s with this key", signer.ErrUnsupported, alg)
	}
	return nil
}
