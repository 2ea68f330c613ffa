package daemon

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/signer"
)

func grantDecryptJWE(a *applicant, q *api.DecryptJWERequest) (string, error) {
	return a.mayNamed(api.OpDecrypt, q.Key)
}

func noteDecryptJWE(rec *audit.Record, q *api.DecryptJWERequest) {
	rec.Object = hashInRecord([]byte(q.JWE))
}

// decryptJWE opens a JWE. For a peer that may decrypt at all, whatever is wrong with the
// JWE is ErrDecrypt: a kid that is unknown, or that of a key which the peer may not use,
// tells as little as a wrong tag.
func decryptJWE(ctx context.Context, c *call, q *api.DecryptJWERequest) (*api.DecryptJWEResponse, error) {
	o, err := c.open(ctx, api.OpDecrypt, q.JWE)
	if err != nil {
		return nil, err
	}
	return &api.DecryptJWEResponse{Plaintext: o.plaintext, Header: o.header, KID: o.kid}, nil
}

// opened is what was in a JWE.
type opened struct {
	plaintext []byte
	header    api.JWEHeader
	kid       string // of the version that opened it
}

// open opens a JWE with one of the keys on which the peer may do op, or with the one that
// the grant is on.
func (c *call) open(ctx context.Context, op api.Op, jwe string) (*opened, error) {
	t, err := signer.ParseSealed(jwe)
	if err != nil {
		return nil, err
	}

	failure := signer.ErrDecrypt
	for _, k := range c.candidates(t, op) {
		c.use(k.name, k.version, k.recipient.Alg)
		plaintext, err := k.version.DecryptJWE(ctx, t, k.recipient)
		switch {
		case err == nil:
			head := api.JWEHeader{Alg: string(k.recipient.Alg), Enc: t.Enc, KID: k.recipient.KID, Typ: t.Header.Typ, Cty: t.Header.Cty}
			return &opened{plaintext, head, k.version.KID()}, nil
		case errors.Is(err, signer.ErrDecrypt):
			// Another candidate may open it.
		case (errors.Is(err, signer.ErrUnavailable) || errors.Is(err, signer.ErrUnsupported)) && ctx.Err() == nil:
			// Another candidate may open it, too. If none does, this one might have, so that
			// ErrDecrypt would be wrong.
			failure = err
		default:
			return nil, err
		}
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

// candidates returns the versions that may open t, at most [maxOpens]: each costs a use of
// a private key, and the maker of t may be anybody. They are of the key that the grant is
// on, or of all keys on which the peer may do op.
//
// For a recipient with a kid it is the version with that kid, once, and any version whose
// kid is not known yet. For a recipient without a kid it is every version that does its
// algorithm.
func (c *call) candidates(t *signer.SealedToken, op api.Op) []candidate {
	var list []candidate
	named := map[*signer.Version]bool{} // versions that a recipient named by its kid
	for _, r := range t.Recipients {
		for _, k := range c.keysOf(r) {
			if c.key != "" && k.Name != c.key || !c.gen.setup.Policy.Allows(c.peer, op, k.Name) {
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

// keysOf returns the keys that may be a recipient's, each with the versions that may be.
func (c *call) keysOf(r *signer.Recipient) []signer.NamedKey {
	if r.KID == "" {
		return c.ring.Keys()
	}
	if name, v, err := c.ring.Version(r.KID); err == nil {
		return []signer.NamedKey{{Name: name, Versions: []*signer.Version{v}}}
	}
	return c.ring.Unseen()
}

// grantUnwrapCEK asks for the grant on the key that the request names, or whose kid it
// names.
func grantUnwrapCEK(a *applicant, q *api.UnwrapCEKRequest) (string, error) {
	switch {
	case q.Key != "":
		return q.Key, a.may(api.OpUnwrap, q.Key)
	case q.KID == "":
		return "", fmt.Errorf("%w: key and kid: give one of them", signer.ErrInvalid)
	}

	ring, peer := a.gen.ring.Load(), a.task.request.Peer
	owner, _, err := ring.Version(q.KID)
	if err != nil && anyUnseen(ring, a.gen.setup.Policy.Keys(peer, api.OpUnwrap)) {
		return "", fmt.Errorf("%w: the kid may be that of a version whose backend has not answered yet", signer.ErrUnavailable)
	}
	if err != nil || a.may(api.OpUnwrap, owner) != nil {
		return "", fmt.Errorf("%w: no grant lets uid %d unwrap with that kid", signer.ErrDenied, peer.UID)
	}
	return owner, nil
}

func noteUnwrapCEK(rec *audit.Record, q *api.UnwrapCEKRequest) {
	rec.Object = hashInRecord(q.EncryptedKey)
}

// unwrapCEK decrypts the encrypted key of a JWE and gives the CEK away.
func unwrapCEK(ctx context.Context, c *call, q *api.UnwrapCEKRequest) (*api.UnwrapCEKResponse, error) {
	if q.Alg == "" {
		return nil, fmt.Errorf("%w: alg: missing", signer.ErrInvalid)
	}
	v, alg, err := c.version(q.KID, q.Alg)
	if err != nil {
		return nil, err
	}

	w := signer.WrappedCEK{Alg: alg, Enc: q.Enc, EncryptedKey: q.EncryptedKey, APU: q.APU, APV: q.APV, IV: q.IV, Tag: q.Tag}
	switch {
	case alg == signer.RSA15:
		// A wrong padding gives a random CEK. It is another each time, so that two answers
		// to one encrypted key would tell.
		return nil, fmt.Errorf("%w: alg: %s gives no content key out: have the JWE decrypted", signer.ErrUnsupported, alg)
	case alg == signer.ECDHES && q.Enc == "":
		return nil, fmt.Errorf("%w: enc: missing, and %s derives a key for it", signer.ErrInvalid, alg)
	case alg.Family() == signer.FamilyECDH && q.EPK == nil:
		return nil, fmt.Errorf("%w: epk: missing", signer.ErrInvalid)
	case alg.Family() == signer.FamilyECDH:
		pub, ok := q.EPK.Key.(*ecdsa.PublicKey)
		if ok {
			w.EPK, err = pub.ECDH()
		}
		if !ok || err != nil {
			return nil, fmt.Errorf("%w: epk: not a public key on P-256, P-384 or P-521", signer.ErrInvalid)
		}
	}

	cek, err := v.UnwrapCEK(ctx, w)
	if err != nil {
		return nil, err
	}
	return &api.UnwrapCEKResponse{CEK: cek, KID: v.KID()}, nil
}
