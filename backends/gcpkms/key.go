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

// A key is one version of a CryptoKey. What callers get embeds it and adds the
// operations that the version's purpose allows: [signKey], [decryptKey], [macKey]
// or [blobKey].
type key struct {
	backend *Backend
	ref     ref
	made    time.Time // if a CryptoKey stood for it
	row     Row
	level   kmspb.ProtectionLevel
	public  crypto.PublicKey
	may     []string // the permissions that the credentials were found to have
}

// Public returns the public half, which was read when the key was opened.
func (k *key) Public() crypto.PublicKey { return k.public }

// Algs returns what the version was made for.
func (k *key) Algs() []signer.Alg { return slices.Clone(k.row.Algs) }

// Lacks says why the version cannot do alg.
func (k *key) Lacks(alg signer.Alg) string {
	return fmt.Sprintf("Google Cloud KMS made this version for %s, padding and hash included, which is %v and never %s", k.row.Algorithm, k.row.Algs, alg)
}

// NotBefore returns when the version was made, if a CryptoKey stood for it.
func (k *key) NotBefore() time.Time { return k.made }

// Describe says what the version is and what the credentials may do with it.
func (k *key) Describe() string {
	text := fmt.Sprintf("%v, %s, protection level %v", k.ref, k.row.Algorithm, k.level)
	if len(k.may) > 0 {
		text += "; the credentials have " + strings.Join(k.may, ", ")
	}
	return text
}

var (
	_ signer.Signer       = signKey{}
	_ signer.Decrypter    = decryptKey{}
	_ signer.MACer        = macKey{}
	_ signer.BlobCipher   = blobKey{}
	_ signer.AlgExplainer = (*key)(nil)
	_ signer.Describer    = (*key)(nil)
	_ signer.Dated        = (*key)(nil)
)

// OpenKey opens the version that ref names:
// projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N, with or
// without gcpkms:/// before it. It reads what the version is and its public half,
// and asks whether the credentials may use it.
//
// A CryptoKey without a version stands for the newest of its enabled versions, which
// [Backend.Expand] lists. One that encrypts stands for itself: its primary version
// encrypts, and whichever encrypted decrypts.
//
// The Key is a signer.Signer, a signer.Decrypter, a signer.MACer or a
// signer.BlobCipher, after the purpose of the CryptoKey.
func (b *Backend) OpenKey(ctx context.Context, name string) (signer.Key, error) {
	r, err := parseRef(name)
	if err != nil {
		return nil, err
	}
	k := &key{backend: b, ref: r}
	if r.version == 0 {
		if k.ref, k.made, err = b.newest(ctx, r); err != nil {
			return nil, err
		}
	}
	if k.ref.version == 0 {
		err = k.describePrimary(ctx)
	} else {
		err = k.describe(ctx)
	}
	if err != nil {
		return nil, atOpen(r.String(), err)
	}
	if k.row.use == useNone {
		return nil, fmt.Errorf("%w: gcpkms: open %v: its algorithm is %s: %s", signer.ErrUnsupported, r, k.row.Algorithm, k.row.why)
	}
	if err := k.permitted(ctx); err != nil {
		return nil, atOpen(r.String(), err)
	}
	b.known.Store(&r.key)
	switch k.row.use { //nolint:exhaustive // the others sign
	case decrypt:
		return decryptKey{k}, nil
	case makeMAC:
		return macKey{k}, nil
	case encryptBlob:
		return blobKey{k}, nil
	default:
		return signKey{k}, nil
	}
}

// describe reads what a version is: from its public key, which takes the
// permission that signers have anyway, or else from the version itself, which all
// have that have no public key.
func (k *key) describe(ctx context.Context) error {
	err := k.readPublic(ctx, unspecified)
	if codeOf(err) == codes.InvalidArgument { // so Google answers for ML-DSA
		err = k.readPublic(ctx, nistPQC)
	}
	switch codeOf(err) { //nolint:exhaustive // the others would be the same for the version
	case codes.FailedPrecondition, codes.InvalidArgument, codes.PermissionDenied:
	default:
		return err
	}
	v, verr := k.readVersion(ctx)
	switch {
	case codeOf(verr) == codes.PermissionDenied:
		return fmt.Errorf("%w; to see more, cloudkms.cryptoKeyVersions.get is needed", err)
	case verr != nil:
		return verr
	case v.GetState() != kmspb.CryptoKeyVersion_ENABLED:
		return notEnabled("version", v.GetState())
	}
	k.row, k.level = row(v.GetAlgorithm().String()), v.GetProtectionLevel()
	switch k.row.use { //nolint:exhaustive // the others have a public half, and it could not be read
	case makeMAC:
		k.public = signer.Secret{Type: signer.SecretHMAC, Size: k.row.size}
	case encryptBlob:
		k.public = signer.Secret{Type: signer.SecretBlob, Size: k.row.size}
	case useNone:
	default:
		return err
	}
	return nil
}

// notEnabled is the error for a version that Google would not use.
func notEnabled(what string, state kmspb.CryptoKeyVersion_CryptoKeyVersionState) error {
	return fmt.Errorf("%w: %s: the %s is %v: only an ENABLED one can be used", signer.ErrUnavailable, service, what, state)
}

// describePrimary reads what a CryptoKey that encrypts is.
func (k *key) describePrimary(ctx context.Context) error {
	c, err := k.backend.cryptoKey(ctx, k.ref.key)
	if err != nil {
		return err
	}
	v := c.GetPrimary()
	if v.GetState() != kmspb.CryptoKeyVersion_ENABLED {
		return notEnabled("primary version", v.GetState())
	}
	k.row, k.level = row(v.GetAlgorithm().String()), v.GetProtectionLevel()
	k.public = signer.Secret{Type: signer.SecretBlob, Size: k.row.size}
	return nil
}

func (k *key) readVersion(ctx context.Context) (v *kmspb.CryptoKeyVersion, err error) {
	name := k.ref.String()
	err = k.backend.do(ctx, classRead, func(ctx context.Context) (err error) {
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

// The formats of public keys that are asked for: PEM for all that have it, and what
// FIPS 204 encodes for ML-DSA.
const (
	unspecified = kmspb.PublicKey_PUBLIC_KEY_FORMAT_UNSPECIFIED
	nistPQC     = kmspb.PublicKey_NIST_PQC
)

// readPublic reads the public half, the algorithm and the protection level.
func (k *key) readPublic(ctx context.Context, format kmspb.PublicKey_PublicKeyFormat) error {
	name := k.ref.String()
	return k.backend.do(ctx, classRead, func(ctx context.Context) error {
		p, err := k.backend.client.GetPublicKey(ctx, &kmspb.GetPublicKeyRequest{Name: name, PublicKeyFormat: format})
		if err != nil {
			return err
		}
		data, crc := []byte(p.GetPem()), p.GetPemCrc32C()
		if format == nistPQC {
			data, crc = p.GetPublicKey().GetData(), p.GetPublicKey().GetCrc32CChecksum()
		}
		if err := intact("public key", data, crc); err != nil {
			return err
		}
		if p.GetName() != name {
			return cloud.Retry(errors.New("the answer names another key version"))
		}
		k.row, k.level = row(p.GetAlgorithm().String()), p.GetProtectionLevel()
		if format == nistPQC {
			k.public, err = parseMLDSA(data, k.row)
		} else {
			k.public, err = parsePublic(string(data), k.row)
		}
		if err != nil {
			return cloud.Fail(err)
		}
		return nil
	})
}

// parseMLDSA reads a public key as FIPS 204 encodes it.
func parseMLDSA(data []byte, r Row) (crypto.PublicKey, error) {
	if r.use == useNone {
		return nil, nil // OpenKey says why
	}
	if len(r.Algs) != 1 {
		return nil, fmt.Errorf("the public key is none of %s", r.Algorithm)
	}
	pub, err := mldsa.Public(r.Algs[0], data)
	if err != nil {
		return nil, fmt.Errorf("the public key is none of %s", r.Algorithm) // no mistake of the config's
	}
	return pub, nil
}

// parsePublic reads a public key in PEM (RFC 7468 section 13), which must be one of
// the algorithm that it is said to be of.
func parsePublic(text string, r Row) (crypto.PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("the public key is not in PEM")
	}
	public, err := cloud.ParsePublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the public key: %w", err)
	}
	for _, alg := range r.Algs {
		if err := alg.Fits(public); err != nil {
			return nil, fmt.Errorf("the public key is none of %s: %s", r.Algorithm, err.Error()) // no mistake of the config's
		}
	}
	if k, ok := public.(*rsa.PublicKey); ok && r.size != 0 && k.N.BitLen() != r.size {
		return nil, fmt.Errorf("the public key is none of %s: it has %d bits", r.Algorithm, k.N.BitLen())
	}
	return public, nil
}
