package daemon

import (
	"cmp"
	"context"
	"crypto"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// An Issuer is somebody whose tokens are trusted. Its name is one of those that
// grants have among their keys.
type Issuer struct {
	Name   string
	Algs   []signer.Alg     // that it signs with; no token chooses another
	Accept *policy.Verifier // what its tokens must be like
	// Keys are its public keys, or Key names a key of the ring.
	Keys []signer.JWK
	Key  string
}

// A Recipient is somebody to encrypt to. Its name is one of those that grants have
// among their keys.
type Recipient struct {
	Name   string
	Public crypto.PublicKey
	KID    string // may be empty
	Alg    signer.Alg
	Enc    string // the one content encryption, or empty for any
}

// maxTries bounds the keys with which one token is verified that does not say whose
// it is.
const maxTries = 16

// A verifier is one key that may have signed a token.
type verifier struct {
	name   string // of the key or the issuer
	kid    string
	accept *policy.Verifier // nil for a key without claim rules
	verify func(context.Context, *signer.SignedToken) ([]byte, error)
}

// verifiers are the keys, ours and those of trusted issuers, that may have signed t
// and that the peer may do op with; of the named one alone, unless only is empty.
// Ours always sign with a kid. An issuer's keys are those with the kid of t, or all
// of them if it or they have none.
func (c *call) verifiers(t *signer.SignedToken, op api.Op, only string) (list []verifier) {
	wanted := func(name string) bool { return (only == "" || only == name) && c.allow(op, name) == nil }
	if name, v, err := c.Ring.Version(t.KID); err == nil && wanted(name) {
		own := verifier{name: name, kid: v.KID(), verify: v.VerifyJWS}
		if rules := c.Policy.Rules(name); rules != nil {
			own.accept = rules.Verifier()
		}
		list = append(list, own)
	}
	for _, is := range c.Issuers {
		if wanted(is.Name) && slices.Contains(is.Algs, t.Alg) {
			list = append(list, c.issuerKeys(is, t)...)
		}
	}
	return list[:min(len(list), maxTries)]
}

func (c *call) issuerKeys(is Issuer, t *signer.SignedToken) (list []verifier) {
	for _, v := range c.begun(is.Key) {
		if (t.KID == "" || t.KID == v.KID()) && slices.Contains(v.Algs(), t.Alg) {
			list = append(list, verifier{is.Name, v.KID(), is.Accept, v.VerifyJWS})
		}
	}
	for _, k := range is.Keys {
		if (t.KID == "" || k.KeyID == "" || t.KID == k.KeyID) && t.Alg.Fits(k.Key) == nil && (k.Algorithm == "" || k.Algorithm == string(t.Alg)) {
			list = append(list, verifier{is.Name, k.KeyID, is.Accept, func(_ context.Context, t *signer.SignedToken) ([]byte, error) {
				return t.VerifyWith(k.Key, is.Algs)
			}})
		}
	}
	return list
}

// An addressee is whom something is encrypted for.
type addressee struct {
	name    string // of the key or the recipient, or for the records that of a JWK
	kid     string
	alg     signer.Alg
	encrypt func(ctx context.Context, enc string, header signer.Header, plaintext []byte) (string, error)
}

// addressee returns who is named, one of our keys or a configured recipient, once
// the peer is known to be allowed to encrypt to it.
func (c *call) addressee(name string) (*addressee, error) {
	if err := c.allow(api.OpEncrypt, name); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(c.Recipients, func(r Recipient) bool { return r.Name == name })
	if i < 0 {
		v, err := c.Ring.Active(name, c.now)
		if err != nil {
			return nil, err
		}
		alg, err := v.EncryptAlg()
		if err != nil {
			return nil, err
		}
		return &addressee{name, v.KID(), alg, v.EncryptJWE}, nil
	}
	r := c.Recipients[i]
	return &addressee{name, r.KID, r.Alg, func(_ context.Context, enc string, header signer.Header, plaintext []byte) (string, error) {
		if r.Enc != "" && enc != "" && enc != r.Enc {
			return "", fmt.Errorf("%w: enc: %s takes %s alone", signer.ErrDenied, r.Name, r.Enc)
		}
		return signer.EncryptJWE(r.Public, r.KID, r.Alg, cmp.Or(enc, r.Enc), header, plaintext)
	}}, nil
}

// jwkAddressee is addressee for a public key in the request.
func (c *call) jwkAddressee(jwk *jose.JSONWebKey) (*addressee, error) {
	if err := c.allow(api.OpEncryptJWK, ""); err != nil {
		return nil, err
	}
	switch {
	case !jwk.IsPublic() || !jwk.Valid():
		return nil, fmt.Errorf("%w: recipient: not a public key", signer.ErrInvalid)
	case jwk.Algorithm == "" || (jwk.Use != "" && jwk.Use != string(signer.UseEnc)):
		return nil, fmt.Errorf("%w: recipient: needs an alg, and a use of enc or none", signer.ErrInvalid)
	}
	thumbprint, err := signer.Thumbprint(jwk.Key)
	if err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	alg := signer.Alg(jwk.Algorithm)
	return &addressee{"jwk " + thumbprint, jwk.KeyID, alg, func(_ context.Context, enc string, header signer.Header, plaintext []byte) (string, error) {
		return signer.EncryptJWE(jwk.Key, jwk.KeyID, alg, enc, header, plaintext)
	}}, nil
}
