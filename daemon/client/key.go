package client

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
	"signetd/signer"
)

// key is one version of a key of the daemon. Nothing changes it after it was opened.
type key struct {
	client *Client
	name   string
	kid    string
	public crypto.PublicKey
	algs   []signer.Alg
}

// Public implements [signer.Key].
func (k *key) Public() crypto.PublicKey { return k.public }

// Algs implements [signer.AlgLister]: the algorithms that the daemon allows for the key.
func (k *key) Algs() []signer.Alg { return slices.Clone(k.algs) }

// Name returns the name of the key.
func (k *key) Name() string { return k.name }

// KID returns the kid of the version to which k is pinned.
func (k *key) KID() string { return k.kid }

// check returns err, or an error if the daemon does not allow alg for the key.
func (k *key) check(alg signer.Alg, err error) error {
	if err != nil {
		return err
	}
	if !slices.Contains(k.algs, alg) {
		return fmt.Errorf("%w: key %q has the algorithms %v, not %s", signer.ErrUnsupported, k.name, k.algs, alg)
	}
	return nil
}

// answered checks that the version which answered is the one that was asked for.
func (k *key) answered(kid string) error {
	if kid != k.kid {
		return fmt.Errorf("key %q: asked %.64q, and %.64q answered", k.name, k.kid, kid)
	}
	return nil
}

// A Signer signs with one version of a key of the daemon. It is a [signer.Signer] and so a
// [crypto.Signer], is safe for concurrent use, and needs the grant sign-digest. When the
// operator has removed the version its error is signer.ErrNotFound: open the key again.
type Signer struct{ key }

var (
	_ signer.Signer    = (*Signer)(nil)
	_ signer.AlgLister = (*Signer)(nil)
)

// Signer opens the active version of the key with the given name.
func (c *Client) Signer(ctx context.Context, name string) (*Signer, error) {
	k, err := c.open(ctx, name, signer.UseSig)
	if err != nil {
		return nil, err
	}
	return &Signer{*k}, nil
}

// Sign implements [crypto.Signer]. The source of randomness is not used.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.SignContext(context.Background(), digest, opts) //nolint:forbidigo // crypto.Signer has no context
}

// SignContext implements [signer.Signer].
func (s *Signer) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	alg, err := signer.CheckDigest(s.public, digest, opts)
	if err := s.check(alg, err); err != nil {
		return nil, err
	}

	resp, err := s.client.SignDigest(ctx, api.SignDigestRequest{Key: s.name, KID: s.kid, Alg: string(alg), Digest: digest})
	if err != nil {
		return nil, err
	}
	if err := s.answered(resp.KID); err != nil {
		return nil, err
	}

	// The daemon answers r || s as JOSE has it; crypto.Signer returns ASN.1 DER.
	if _, ok := s.public.(*ecdsa.PublicKey); ok {
		return signer.DERECDSA(resp.Signature)
	}
	return resp.Signature, nil
}

// Opaque returns s as the opaque signer that [jose.NewSigner] takes.
func (s *Signer) Opaque() (jose.OpaqueSigner, error) {
	return signer.OpaqueSigner(s, s.kid, s.algs...)
}

// A Decrypter unwraps keys with one version of a key of the daemon. It is a
// [signer.Decrypter] and so a [crypto.Decrypter], is safe for concurrent use, and needs
// the grant unwrap. When the operator has removed the version its error is
// signer.ErrNotFound: open the key again. A recipient that does not need the CEK calls
// [Client.DecryptJWE], which finds the version by the kid of the JWE.
type Decrypter struct{ key }

var (
	_ signer.Decrypter = (*Decrypter)(nil)
	_ signer.AlgLister = (*Decrypter)(nil)
)

// Decrypter opens the active version of the key with the given name.
func (c *Client) Decrypter(ctx context.Context, name string) (*Decrypter, error) {
	k, err := c.open(ctx, name, signer.UseEnc)
	if err != nil {
		return nil, err
	}
	return &Decrypter{*k}, nil
}

// Decrypt implements [crypto.Decrypter]. The source of randomness is not used.
func (d *Decrypter) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return d.DecryptContext(context.Background(), ciphertext, opts) //nolint:forbidigo // crypto.Decrypter has no context
}

// DecryptContext implements [signer.Decrypter].
func (d *Decrypter) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	alg, err := signer.CheckCiphertext(d.public, ciphertext, opts)
	if err := d.check(alg, err); err != nil {
		return nil, err
	}

	resp, err := d.client.UnwrapCEK(ctx, api.UnwrapCEKRequest{Key: d.name, KID: d.kid, Alg: string(alg), EncryptedKey: ciphertext})
	switch {
	case errors.Is(err, signer.ErrDecrypt):
		return nil, signer.ErrDecrypt // without the request id: every Decrypter returns this error as it is
	case err != nil:
		return nil, err
	}

	if err := d.answered(resp.KID); err != nil {
		clear(resp.CEK)
		return nil, err
	}
	return resp.CEK, nil
}

// Opaque returns d as the opaque key that [jose.JSONWebEncryption.Decrypt] takes. That
// method has one error for all causes, even if the daemon cannot be reached.
func (d *Decrypter) Opaque() jose.OpaqueKeyDecrypter {
	return signer.OpaqueDecrypter(d, d.algs...)
}

// open asks the daemon for the description of a key, and pins the active version.
func (c *Client) open(ctx context.Context, name string, use signer.Use) (*key, error) {
	described, err := c.Key(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", name, err)
	}
	return c.pin(described, use)
}

// pin returns the active version of a key, as the daemon has described it.
func (c *Client) pin(described *api.Key, use signer.Use) (*key, error) {
	if described.Use != string(use) {
		return nil, fmt.Errorf("%w: key %q has the use %q, not %q", signer.ErrUnsupported, described.Name, described.Use, use)
	}

	i := slices.IndexFunc(described.Versions, func(v api.KeyVersion) bool { return v.Active })
	if i < 0 {
		return nil, fmt.Errorf("%w: key %q: no version is active", signer.ErrNotFound, described.Name)
	}

	v := described.Versions[i]
	if v.Public == nil {
		return nil, fmt.Errorf("%w: key %q is symmetric: only the daemon can use it", signer.ErrUnsupported, described.Name)
	}
	switch v.Public.Key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("%w: key %q: this client does not know keys of type %T", signer.ErrUnsupported, described.Name, v.Public.Key)
	}

	k := &key{client: c, name: described.Name, kid: v.KID, public: v.Public.Key}
	for _, alg := range described.Algs {
		if a := signer.Alg(alg); a.Use() == use && a.Fits(k.public) == nil { // a newer daemon may know more than this client
			k.algs = append(k.algs, a)
		}
	}
	if len(k.algs) == 0 {
		return nil, fmt.Errorf("%w: key %q: this client knows none of its algorithms %v", signer.ErrUnsupported, described.Name, described.Algs)
	}
	return k, nil
}
