package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"signetd/daemon/api"
	"signetd/signer"
)

// DecryptJWE opens a JWE. For a peer that may decrypt at all, whatever is wrong
// with the JWE is ErrDecrypt: that its kid is unknown, or of a key that the peer
// may not use, is told as little as that its tag is wrong.
func (s *Service) DecryptJWE(ctx context.Context, r Request, q *api.DecryptJWERequest) (*api.DecryptJWEResponse, error) {
	return do(ctx, s, r, api.OpDecrypt, q.Key, func(ctx context.Context, c *call) (*api.DecryptJWEResponse, error) {
		o, err := c.open(ctx, api.OpDecrypt, q.JWE, q.Key)
		if err != nil {
			return nil, err
		}
		return &api.DecryptJWEResponse{Plaintext: o.plaintext, Header: o.header, KID: o.kid}, nil
	})
}

// opened is what was in a JWE.
type opened struct {
	plaintext []byte
	header    api.JWEHeader
	kid       string // of the version that opened it
}

// open opens a JWE with one of the keys that the peer may do op with; with the named
// one, unless key is empty.
func (c *call) open(ctx context.Context, op api.Op, jwe, key string) (*opened, error) {
	c.rec.Object = hash([]byte(jwe))
	var err error
	if key != "" {
		err = c.allow(op, key)
	} else {
		err = c.allowAny(op)
	}
	if err != nil {
		return nil, err
	}
	t, err := signer.ParseSealed(jwe)
	if err != nil {
		return nil, err
	}
	failure := signer.ErrDecrypt
	for _, k := range c.candidates(t, op, key) {
		c.use(k.name, k.version, k.recipient.Alg)
		plaintext, err := k.version.DecryptJWE(ctx, t, k.recipient)
		if errors.Is(err, signer.ErrDecrypt) {
			continue
		}
		if (errors.Is(err, signer.ErrUnavailable) || errors.Is(err, signer.ErrUnsupported)) && ctx.Err() == nil {
			failure = err // another may open it; if none does, this one might have, or has its hardware say no
			continue
		}
		if err != nil {
			return nil, err
		}
		head := api.JWEHeader{Alg: string(k.recipient.Alg), Enc: t.Enc, KID: k.recipient.KID, Typ: t.Header.Typ, Cty: t.Header.Cty}
		return &opened{plaintext, head, k.version.KID()}, nil
	}
	return nil, failure
}

// maxOpens bounds the uses of private keys for one JWE.
const maxOpens = 8

// A candidate is a version that may open a JWE, as one of its recipients.
type candidate struct {
	name      string
	version   *signer.Version
	recipient *signer.Recipient
}

// candidates are the versions that may open t, of the keys with which the peer may do op,
// or of the named one: for each recipient the one with its kid, once, or all that do its
// algorithm if it has none, and no more than [maxOpens] in all: each costs a use of a
// private key, and whoever made t need not be known to anybody. A version of which
// nobody knows the kid yet may be the one with a kid that nobody knows.
func (c *call) candidates(t *signer.SealedToken, op api.Op, only string) []candidate {
	var list []candidate
	named := map[*signer.Version]bool{} // by their kid
	for _, r := range t.Recipients {
		for _, k := range c.opening(r) {
			if only != "" && k.Name != only || !c.Policy.Allows(c.peer, op, k.Name) {
				continue
			}
			for _, v := range k.Versions {
				if r.KID == "" && v.KID() != "" && !v.Does(r.Alg) {
					continue
				}
				if named[v] && r.KID != "" { // a recipient is named once (RFC 7516 section 7.2.1)
					continue
				}
				list = append(list, candidate{k.Name, v, r})
				named[v] = named[v] || r.KID != ""
			}
		}
	}
	return list[:min(len(list), maxOpens)]
}

// opening are the keys of which one may be that of a recipient: with the version that has
// its kid, with those of which nobody knows the kid, or all if the recipient has none.
func (c *call) opening(r *signer.Recipient) []signer.NamedKey {
	if r.KID == "" {
		return c.Ring.Keys()
	}
	if name, v, err := c.Ring.Version(r.KID); err == nil {
		return []signer.NamedKey{{Name: name, Versions: []*signer.Version{v}}}
	}
	return c.Ring.Unseen()
}

// UnwrapCEK decrypts the encrypted key of a JWE and gives the CEK away.
func (s *Service) UnwrapCEK(ctx context.Context, r Request, q *api.UnwrapCEKRequest) (*api.UnwrapCEKResponse, error) {
	return do(ctx, s, r, api.OpUnwrap, q.Key, func(ctx context.Context, c *call) (*api.UnwrapCEKResponse, error) {
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
	if alg == signer.RSA15 {
		// A wrong padding gives a random CEK. It is another each time, so that two answers
		// to one encrypted key would tell.
		return w, fmt.Errorf("%w: alg: %s gives no content key out: have the JWE decrypted", signer.ErrUnsupported, alg)
	}
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
		if err != nil && c.unseen(c.Policy.Keys(c.peer, api.OpUnwrap)) {
			return "", fmt.Errorf("%w: the kid may be that of a version whose backend has not answered yet", signer.ErrUnavailable)
		}
		if err != nil || c.allow(api.OpUnwrap, owner) != nil {
			return "", fmt.Errorf("%w: no grant lets uid %d unwrap with that kid", signer.ErrDenied, c.peer.UID)
		}
		return owner, nil
	}
	return name, c.allow(api.OpUnwrap, name)
}

// EncryptJWE encrypts to the active version of a key, to a configured recipient, or
// to the public key in the request.
func (s *Service) EncryptJWE(ctx context.Context, r Request, q *api.EncryptJWERequest) (*api.EncryptJWEResponse, error) {
	op := api.OpEncrypt
	if q.Recipient != nil {
		op = api.OpEncryptJWK
	}
	return do(ctx, s, r, op, q.Key, func(ctx context.Context, c *call) (*api.EncryptJWEResponse, error) {
		to, err := c.encryptFor(q)
		if err != nil {
			return nil, err
		}
		if err := checkForm(q.Serialization); err != nil {
			return nil, err
		}
		jwe, err := to.encrypt(ctx, q.Enc, header(q.Header), q.Plaintext)
		if err != nil {
			return nil, err
		}
		if form := q.Serialization; form == api.Flattened || form == api.General {
			jwe = signer.FlattenJWE(jwe, form == api.General)
		}
		return &api.EncryptJWEResponse{JWE: jwe, KID: to.kid}, nil
	})
}

// encryptFor is the recipient of q, noted in the record.
func (c *call) encryptFor(q *api.EncryptJWERequest) (to *addressee, err error) {
	if q.Recipient == nil {
		if to, err = c.addressee(q.Key); err == nil {
			c.rec.KID, c.rec.Alg = to.kid, string(to.alg)
		}
		return to, err
	}
	if to, err = c.jwkAddressee(q.Recipient); err == nil && q.Key != "" {
		err = fmt.Errorf("%w: key and recipient: give one of them", signer.ErrInvalid)
	}
	if err == nil {
		c.rec.To = to.name
	}
	return to, err
}

// hash is what the audit record has of an object: its SHA-256.
func hash(object []byte) string {
	sum := sha256.Sum256(object)
	return encode(sum[:])
}
