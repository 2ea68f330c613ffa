//go:build !nogcp

package gcpkms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"

	"signetd/backends/cloud"
	"signetd/signer"
	"signetd/signer/mldsa"
)

// A key is one version of a CryptoKey. [signKey], [decryptKey], [macKey] and
// [blobKey] embed it and add the operations that the version's purpose allows. It does
// not change once OpenKey has returned it.
type key struct {
	backend *Backend
	ref     ref
	made    time.Time // when the version was made, if a CryptoKey stood for it
	row     row
	level   kmspb.ProtectionLevel
	public  crypto.PublicKey
	may     []string // the permissions that the credentials have on the CryptoKey
}

var (
	_ signer.AlgExplainer = (*key)(nil)
	_ signer.Describer    = (*key)(nil)
	_ signer.Dated        = (*key)(nil)
)

// Public implements [signer.Key].
func (k *key) Public() crypto.PublicKey { return k.public }

// Algs implements [signer.AlgLister].
func (k *key) Algs() []signer.Alg { return slices.Clone(k.row.algs) }

// Lacks implements [signer.AlgExplainer].
func (k *key) Lacks(alg signer.Alg) string {
	return fmt.Sprintf("%s made this version for %s, padding and hash included, which is %v and never %s", service, k.row.algorithm, k.row.algs, alg)
}

// NotBefore implements [signer.Dated].
func (k *key) NotBefore() time.Time { return k.made }

// Describe implements [signer.Describer]: the version's name, algorithm and protection
// level, and what the credentials may do with it.
func (k *key) Describe() string {
	text := fmt.Sprintf("%v, %s, protection level %v", k.ref, k.row.algorithm, k.level)
	if len(k.may) > 0 {
		text += "; the credentials have " + strings.Join(k.may, ", ")
	}
	return text
}

// has returns ErrUnsupported for an algorithm that fits the public half and that the
// version was not made for.
func (k *key) has(alg signer.Alg) error {
	if !slices.Contains(k.row.algs, alg) {
		return fmt.Errorf("%w: %s: %s", signer.ErrUnsupported, alg, k.Lacks(alg))
	}
	return nil
}

// call makes a call that uses the key. Its error names the version, except for
// ErrDecrypt, which says nothing more.
func (k *key) call(ctx context.Context, call func(ctx context.Context) error) error {
	err := k.backend.call(ctx, classCrypto, call)
	if err == nil || errors.Is(err, signer.ErrDecrypt) {
		return err
	}
	return fmt.Errorf("gcpkms: %v: %w", k.ref, err)
}

// OpenKey opens the version that ref names:
// projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N, with or
// without gcpkms:/// before it. It reads what the version is and its public half,
// and asks whether the credentials may use it. A version that is not ENABLED, or that
// the credentials may not use, is ErrUnavailable, and one that does nothing that JOSE
// has is ErrUnsupported, each with the reason.
//
// A CryptoKey without a version stands for the newest of its enabled versions, which
// [Backend.Expand] lists. One that encrypts stands for itself: its primary version
// encrypts, and the version that has encrypted decrypts.
//
// The Key is a signer.Signer, a signer.Decrypter, a signer.MACer or a
// signer.BlobCipher, by the purpose of the CryptoKey.
func (b *Backend) OpenKey(ctx context.Context, name string) (signer.Key, error) {
	r, err := parseRef(name)
	if err != nil {
		return nil, err
	}
	k, err := b.open(ctx, r)
	if err != nil {
		return nil, atOpen(r.String(), err)
	}
	return k, nil
}

func (b *Backend) open(ctx context.Context, r ref) (signer.Key, error) {
	k := &key{backend: b, ref: r}
	if r.version == 0 {
		newest, err := b.expand(ctx, r)
		if err != nil {
			return nil, err
		}
		k.made = newest[0].NotBefore
		if k.ref, err = parseRef(newest[0].Ref); err != nil {
			return nil, err
		}
	}

	if err := k.describe(ctx); err != nil {
		return nil, err
	}
	if k.row.use == useNone {
		return nil, fmt.Errorf("%w: its algorithm is %s: %s", signer.ErrUnsupported, k.row.algorithm, k.row.why)
	}
	if err := k.checkPermissions(ctx); err != nil {
		return nil, err
	}

	b.known.Store(&k.ref.key)
	switch k.row.use { //nolint:exhaustive // the others sign
	case useDecrypt:
		return decryptKey{k}, nil
	case useMAC:
		return macKey{k}, nil
	case useBlob:
		return blobKey{k}, nil
	default:
		return signKey{k}, nil
	}
}

// The formats in which public keys are asked for: PEM for those that have it, and the
// encoding of FIPS 204 for ML-DSA.
const (
	formatPEM = kmspb.PublicKey_PUBLIC_KEY_FORMAT_UNSPECIFIED
	formatPQC = kmspb.PublicKey_NIST_PQC
)

// describe reads what a version is and its public half.
func (k *key) describe(ctx context.Context) error {
	if k.ref.version == 0 {
		return k.describePrimary(ctx)
	}

	// The public key comes first, because the role that signs includes the permission to
	// read it, and not the permission to read the version.
	err := k.readPublic(ctx, formatPEM)
	if codeOf(err) == codes.InvalidArgument { // Google's answer for ML-DSA, which has no PEM
		err = k.readPublic(ctx, formatPQC)
	}
	switch codeOf(err) { //nolint:exhaustive // the others would come for the version, too
	case codes.FailedPrecondition, codes.InvalidArgument, codes.PermissionDenied:
	default:
		return err
	}

	// There is no public key to read: the version tells whether it is symmetric, or not
	// enabled, or the credentials lack a permission.
	v, versionErr := k.readVersion(ctx)
	switch {
	case codeOf(versionErr) == codes.PermissionDenied:
		return fmt.Errorf("%w; to see more, cloudkms.cryptoKeyVersions.get is needed", err)
	case versionErr != nil:
		return versionErr
	}
	if versionErr := k.setVersion("version", v); versionErr != nil {
		return versionErr
	}
	if k.public == nil && k.row.use != useNone {
		return err
	}
	return nil
}

// describePrimary reads what a CryptoKey that encrypts is. Its primary version
// encrypts.
func (k *key) describePrimary(ctx context.Context) error {
	var primary *kmspb.CryptoKeyVersion
	err := k.backend.call(ctx, classControl, func(ctx context.Context) error {
		c, err := k.backend.client.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: k.ref.key})
		if err != nil {
			return err
		}
		if c.GetName() != k.ref.key {
			return cloud.Retry(errors.New("the answer names another key"))
		}
		primary = c.GetPrimary()
		return nil
	})
	if err != nil {
		return err
	}
	return k.setVersion("primary version", primary)
}

// setVersion takes over what Google says about the version, which is what in errors.
// It returns ErrUnavailable for one that is not enabled. The public half of a key pair is
// left to read.
func (k *key) setVersion(what string, v *kmspb.CryptoKeyVersion) error {
	if state := v.GetState(); state != kmspb.CryptoKeyVersion_ENABLED {
		return fmt.Errorf("%w: %s: the %s is %v: only an ENABLED one can be used", signer.ErrUnavailable, service, what, state)
	}

	k.row, k.level = rowOf(v.GetAlgorithm().String()), v.GetProtectionLevel()
	switch k.row.use { //nolint:exhaustive // the others have a public half
	case useMAC:
		k.public = signer.Secret{Type: signer.SecretHMAC, Size: k.row.size}
	case useBlob:
		k.public = signer.Secret{Type: signer.SecretBlob, Size: k.row.size}
	}
	return nil
}

func (k *key) readVersion(ctx context.Context) (v *kmspb.CryptoKeyVersion, err error) {
	name := k.ref.String()
	err = k.backend.call(ctx, classControl, func(ctx context.Context) (err error) {
		if v, err = k.backend.client.GetCryptoKeyVersion(ctx, &kmspb.GetCryptoKeyVersionRequest{Name: name}); err != nil {
			return err
		}
		if v.GetName() != name {
			return cloud.Retry(errors.New("the answer names another key version"))
		}
		return nil
	})
	return v, err
}

// readPublic reads the public half, the algorithm and the protection level.
func (k *key) readPublic(ctx context.Context, format kmspb.PublicKey_PublicKeyFormat) error {
	name := k.ref.String()
	return k.backend.call(ctx, classControl, func(ctx context.Context) error {
		p, err := k.backend.client.GetPublicKey(ctx, &kmspb.GetPublicKeyRequest{Name: name, PublicKeyFormat: format})
		if err != nil {
			return err
		}

		data, crc, parse := []byte(p.GetPem()), p.GetPemCrc32C(), parsePEM
		if format == formatPQC {
			data, crc, parse = p.GetPublicKey().GetData(), p.GetPublicKey().GetCrc32CChecksum(), parseMLDSA
		}
		if err := checkCRC("public key", data, crc); err != nil {
			return err
		}
		if p.GetName() != name {
			return cloud.Retry(errors.New("the answer names another key version"))
		}

		k.row, k.level = rowOf(p.GetAlgorithm().String()), p.GetProtectionLevel()
		if k.public, err = parse(data, k.row); err != nil {
			return cloud.Fail(err)
		}
		return nil
	})
}

// parseMLDSA reads a public key in the encoding of FIPS 204. Its errors wrap no
// sentinel: the config did not cause them.
func parseMLDSA(data []byte, r row) (crypto.PublicKey, error) {
	if r.use == useNone {
		return nil, nil // open says why
	}
	if len(r.algs) == 1 {
		if pub, err := mldsa.Public(r.algs[0], data); err == nil {
			return pub, nil
		}
	}
	return nil, fmt.Errorf("the public key is not one for %s", r.algorithm)
}

// parsePEM reads a public key in PEM (RFC 7468 section 13). It must fit the algorithm
// that the answer names. Its errors wrap no sentinel: the config did not cause them.
func parsePEM(data []byte, r row) (crypto.PublicKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("the public key is not in PEM")
	}
	public, err := cloud.ParsePublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the public key: %w", err)
	}

	for _, alg := range r.algs {
		if err := alg.Fits(public); err != nil {
			return nil, fmt.Errorf("the public key is not one for %s: %s", r.algorithm, err.Error())
		}
	}
	if k, ok := public.(*rsa.PublicKey); ok && r.size != 0 && k.N.BitLen() != r.size {
		return nil, fmt.Errorf("the public key is not one for %s: it has %d bits", r.algorithm, k.N.BitLen())
	}
	return public, nil
}
