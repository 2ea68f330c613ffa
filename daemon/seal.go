package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// SealJWT signs claims that keep the key's rules, and encrypts the token for a
// recipient. Claims that are secret may be in it.
func (s *Service) SealJWT(ctx context.Context, r Request, q *api.SealJWTRequest) (*api.SealJWTResponse, error) {
	return do(ctx, s, r, api.OpSealJWT, q.Key, func(ctx context.Context, c *call) (*api.SealJWTResponse, error) {
		if err := c.allow(api.OpSealJWT, q.Key); err != nil {
			return nil, err
		}
		to, err := c.sealFor(q)
		if err != nil {
			return nil, err
		}
		c.rec.To = clip(to.name)
		v, jws, err := c.signClaims(ctx, api.OpSealJWT, &api.SignJWTRequest{Key: q.Key, Claims: q.Claims, TTL: q.TTL, Alg: q.Alg, Header: q.Header})
		if err != nil {
			return nil, err
		}
		jwe, err := to.encrypt(ctx, q.Enc, signer.Header{Cty: nested}, []byte(jws.Compact()))
		if err != nil {
			return nil, err
		}
		c.rec.Object = hash([]byte(jwe))
		return &api.SealJWTResponse{Token: jwe, KID: v.KID(), RecipientKID: to.kid}, nil
	})
}

// nested is the cty of a JWE that holds a JWT (RFC 7519 section 5.2).
const nested = "JWT"

// sealFor is the recipient of q.
func (c *call) sealFor(q *api.SealJWTRequest) (*addressee, error) {
	switch {
	case (q.To == "") == (q.Recipient == nil):
		return nil, fmt.Errorf("%w: to and recipient: give one of them", signer.ErrInvalid)
	case q.Recipient != nil:
		return c.jwkAddressee(q.Recipient)
	default:
		return c.addressee(q.To)
	}
}

// OpenJWT opens a nested JWT and verifies the token in it. What does not open is
// ErrDecrypt, as with DecryptJWE; of what does, ErrInvalid says why it is not
// valid: only who knows the content key could have made it.
func (s *Service) OpenJWT(ctx context.Context, r Request, q *api.OpenJWTRequest) (*api.OpenJWTResponse, error) {
	return do(ctx, s, r, api.OpOpenJWT, q.Key, func(ctx context.Context, c *call) (*api.OpenJWTResponse, error) {
		if err := c.allowAny(api.OpVerify); err != nil {
			return nil, err
		}
		o, err := c.open(ctx, api.OpOpenJWT, q.Token, q.Key)
		if err != nil {
			return nil, err
		}
		defer clear(o.plaintext)
		if !strings.EqualFold(strings.TrimPrefix(o.header.Cty, "application/"), nested) {
			return nil, fmt.Errorf("%w: token: cty is not %s: there is no signed token in it", signer.ErrInvalid, nested)
		}
		t, err := signer.ParseSigned(string(o.plaintext))
		if err != nil {
			return nil, err
		}
		by, claims, err := c.verifyClaims(ctx, t, policy.Want{Issuer: q.Issuer, Audience: q.Audience})
		if by != nil {
			c.rec.SignedBy = by.name
		}
		if err != nil {
			return nil, err
		}
		return &api.OpenJWTResponse{Claims: json.RawMessage(claims.Payload), Header: headerOf(t), Key: by.name, Sealed: o.header}, nil
	})
}
