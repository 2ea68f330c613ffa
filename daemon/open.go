package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// DecryptJWE opens a JWE. For a peer that may decrypt at all, whatever is wrong
// with the JWE is ErrDecrypt: that its kid is unknown, or of a key that the peer
// may not use, is told as little as that its tag is wrong.
func (s *Service) DecryptJWE(ctx context.Context, r Request, q *api.DecryptJWERequest) (*api.DecryptJWEResponse, error) {
	return do(ctx, s, r, policy.OpDecrypt, q.Key, func(ctx context.Context, c *call) (*api.DecryptJWEResponse, error) {
		c.rec.Object = hash([]byte(q.JWE))
		names := c.Policy.Keys(c.peer, policy.OpDecrypt)
		if q.Key != "" {
			if err := c.allow(policy.OpDecrypt, q.Key); err != nil {
				return nil, err
			}
			names = []string{q.Key}
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("%w: no grant lets uid %d decrypt", signer.ErrDenied, c.peer.UID)
		}
		t, err := signer.ParseSealed(q.JWE)
		if err != nil {
			return nil, err
		}
		failure := signer.ErrDecrypt
		for _, k := range c.candidates(t, names) {
			c.use(k.name, k.version, k.recipient.Alg)
			plaintext, err := k.version.DecryptJWE(ctx, t, k.recipient)
			if errors.Is(err, signer.ErrDecrypt) {
				continue
			}
			if errors.Is(err, signer.ErrUnavailable) && ctx.Err() == nil {
				failure = err // another may open it; if none does, this one might have
				continue
			}
			if err != nil {
				return nil, err
			}
			head := api.JWEHeader{Alg: string(k.recipient.Alg), Enc: t.Enc, KID: k.recipient.KID, Typ: t.Header.Typ, Cty: t.Header.Cty}
			return &api.DecryptJWEResponse{Plaintext: plaintext, Header: head, KID: k.version.KID()}, nil
		}
		return nil, failure
	})
}

// A candidate is a version that may open a JWE, as one of its recipients.
type candidate struct {
	name      string
	version   *signer.Version
	recipient *signer.Recipient
}

// candidates are the versions that may open t: for each recipient the one with its
// kid, or all of the named keys if it has none. A version of which nobody knows the
// kid yet may be the one with a kid that nobody knows.
func (c *call) candidates(t *signer.SealedToken, names []string) []candidate {
	var list []candidate
	for _, r := range t.Recipients {
		_, _, unknown := c.Ring.Version(r.KID)
		for _, k := range c.Ring.Keys() {
			if !slices.Contains(names, k.Name) {
				continue
			}
			for _, v := range k.Versions {
				if r.KID == "" || v.KID() == r.KID || v.KID() == "" && unknown != nil {
					list = append(list, candidate{k.Name, v, r})
				}
			}
		}
	}
	return list
}

// UnwrapCEK decrypts the encrypted key of a JWE and gives the CEK away.
func (s *Service) UnwrapCEK(ctx context.Context, r Request, q *api.UnwrapCEKRequest) (*api.UnwrapCEKResponse, error) {
	return do(ctx, s, r, policy.OpUnwrap, q.Key, func(ctx context.Context, c *call) (*api.UnwrapCEKResponse, error) {
		c.rec.Object = hash(q.EncryptedKey)
		key, err := c.unwrapKey(q)
		if err != nil {
			return nil, err
		}
		if q.Alg == "" {
			return nil, fmt.Errorf("%w: alg: none", signer.ErrInvalid)
		}
		v, alg, err := c.version(key, q.KID, q.Alg)
		if err != nil {
			return nil, err
		}
		wrapped, err := wrappedCEK(alg, q)
		if err != nil {
			return nil, err
		}
		cek, err := v.UnwrapCEK(ctx, wrapped)
		if err != nil {
			return nil, err
		}
		return &api.UnwrapCEKResponse{CEK: cek, KID: v.KID()}, nil
	})
}

// wrappedCEK is what q asks to have unwrapped.
func wrappedCEK(alg signer.Alg, q *api.UnwrapCEKRequest) (signer.WrappedCEK, error) {
	w := signer.WrappedCEK{Alg: alg, Enc: q.Enc, EncryptedKey: q.EncryptedKey, APU: q.APU, APV: q.APV, IV: q.IV, Tag: q.Tag}
	if alg == signer.ECDHES && q.Enc == "" {
		return w, fmt.Errorf("%w: enc: %s derives a key for it", signer.ErrInvalid, alg)
	}
	if alg.Family() != signer.FamilyECDH {
		return w, nil
	}
	if q.EPK == nil {
		return w, fmt.Errorf("%w: epk: none", signer.ErrInvalid)
	}
	pub, ok := q.EPK.Key.(*ecdsa.PublicKey)
	if !ok {
		return w, fmt.Errorf("%w: epk: not a public key on P-256, P-384 or P-521", signer.ErrInvalid)
	}
	var err error
	if w.EPK, err = pub.ECDH(); err != nil {
		return w, fmt.Errorf("%w: epk: not a public key on P-256, P-384 or P-521", signer.ErrInvalid)
	}
	return w, nil
}

// unwrapKey returns the name of the key that a request names or whose kid it
// names, once the peer is known to be allowed to use it.
func (c *call) unwrapKey(q *api.UnwrapCEKRequest) (string, error) {
	if q.Key == "" && q.KID == "" {
		return "", fmt.Errorf("%w: key and kid: give one of them", signer.ErrInvalid)
	}
	name := q.Key
	if name == "" {
		owner, _, err := c.Ring.Version(q.KID)
		if err != nil && c.unseen(c.Policy.Keys(c.peer, policy.OpUnwrap)) {
			return "", fmt.Errorf("%w: the kid may be that of a version whose backend has not answered yet", signer.ErrUnavailable)
		}
		if err != nil || c.allow(policy.OpUnwrap, owner) != nil {
			return "", fmt.Errorf("%w: no grant lets uid %d unwrap with that kid", signer.ErrDenied, c.peer.UID)
		}
		return owner, nil
	}
	return name, c.allow(policy.OpUnwrap, name)
}

// EncryptJWE encrypts to the active version of a key, or to the public key in
// the request.
func (s *Service) EncryptJWE(ctx context.Context, r Request, q *api.EncryptJWERequest) (*api.EncryptJWEResponse, error) {
	if q.Recipient != nil {
		return s.encryptJWK(ctx, r, q)
	}
	return do(ctx, s, r, policy.OpEncrypt, q.Key, func(ctx context.Context, c *call) (*api.EncryptJWEResponse, error) {
		if err := c.allow(policy.OpEncrypt, q.Key); err != nil {
			return nil, err
		}
		v, _, err := c.active(q.Key, "")
		if err != nil {
			return nil, err
		}
		jwe, err := v.EncryptJWE(ctx, q.Enc, header(q.Header), q.Plaintext)
		if err != nil {
			return nil, err
		}
		return &api.EncryptJWEResponse{JWE: jwe, KID: v.KID()}, nil
	})
}

func (s *Service) encryptJWK(ctx context.Context, r Request, q *api.EncryptJWERequest) (*api.EncryptJWEResponse, error) {
	return do(ctx, s, r, policy.OpEncryptJWK, "", func(_ context.Context, c *call) (*api.EncryptJWEResponse, error) {
		if err := c.allow(policy.OpEncryptJWK, ""); err != nil {
			return nil, err
		}
		jwk := q.Recipient
		switch {
		case q.Key != "":
			return nil, fmt.Errorf("%w: key and recipient: give one of them", signer.ErrInvalid)
		case !jwk.IsPublic() || !jwk.Valid():
			return nil, fmt.Errorf("%w: recipient: not a public key", signer.ErrInvalid)
		case jwk.Algorithm == "" || (jwk.Use != "" && jwk.Use != string(signer.UseEnc)):
			return nil, fmt.Errorf("%w: recipient: needs an alg, and a use of enc or none", signer.ErrInvalid)
		}
		jwe, err := signer.EncryptJWE(jwk.Key, jwk.KeyID, signer.Alg(jwk.Algorithm), q.Enc, header(q.Header), q.Plaintext)
		if err != nil {
			return nil, err
		}
		return &api.EncryptJWEResponse{JWE: jwe, KID: jwk.KeyID}, nil
	})
}

// hash is what the audit record has of an object: its SHA-256.
func hash(object []byte) string {
	sum := sha256.Sum256(object)
	return encode(sum[:])
}
