package daemon

import (
	"context"
	"encoding/json"
	"fmt"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// VerifyJWT verifies a token of one of the keys, or of one of the trusted issuers,
// that the peer may verify with: signature, algorithm, typ, issuer, audience and
// times, all as the rules have them and none as the token says.
func (s *Service) VerifyJWT(ctx context.Context, r Request, q *api.VerifyJWTRequest) (*api.VerifyJWTResponse, error) {
	return do(ctx, s, r, api.OpVerify, "", func(ctx context.Context, c *call) (*api.VerifyJWTResponse, error) {
		if err := c.allowAny(api.OpVerify); err != nil {
			return nil, err
		}
		t, err := signer.ParseSigned(q.Token)
		if err != nil {
			return nil, err
		}
		by, claims, err := c.verifyClaims(ctx, t, policy.Want{Issuer: q.Issuer, Audience: q.Audience})
		if by != nil {
			c.rec.Key, c.rec.KID, c.rec.Alg = by.name, by.kid, string(t.Alg)
		}
		if err != nil {
			return nil, err
		}
		return &api.VerifyJWTResponse{Claims: json.RawMessage(claims.Payload), Header: headerOf(t), Key: by.name}, nil
	})
}

// verifyClaims verifies t and returns its claims and who signed it, and notes which
// token it is in the record. by is also returned with an error, where a key of t was
// found.
func (c *call) verifyClaims(ctx context.Context, t *signer.SignedToken, want policy.Want) (by *verifier, claims *policy.Claims, err error) {
	c.rec.Digest = encode(t.Digest)
	for _, v := range c.verifiers(t, api.OpVerify, "") {
		payload, verr := v.verify(ctx, t)
		if verr == nil {
			claims, verr = v.accept.Verify(policy.Token{Payload: payload, Alg: t.Alg, Typ: t.Typ}, want, c.now)
		}
		if verr == nil {
			c.rec.JTI, c.rec.Exp = clip(claims.JTI), claims.Exp.Unix()
			return &v, claims, nil
		}
		if signer.Code(verr) != signer.Code(signer.ErrInvalid) {
			return &v, nil, verr // the backend is at fault, not the token
		}
		if by == nil || rule(err) == "" { // what a rule says is better than that another key is wrong
			by, err = &v, verr
		}
	}
	if by == nil {
		err = c.noVerifier("token", api.OpVerify)
	}
	return by, nil, err
}

// VerifyJWS verifies any payload that one of our keys, or of a trusted issuer's,
// signed. Of several signatures one by such a key is enough.
func (s *Service) VerifyJWS(ctx context.Context, r Request, q *api.VerifyJWSRequest) (*api.VerifyJWSResponse, error) {
	return do(ctx, s, r, api.OpVerifyJWS, q.Key, func(ctx context.Context, c *call) (*api.VerifyJWSResponse, error) {
		if err := c.allowAny(api.OpVerifyJWS); err != nil {
			return nil, err
		}
		if q.Key != "" {
			if err := c.allow(api.OpVerifyJWS, q.Key); err != nil {
				return nil, err
			}
		}
		tokens, err := signer.ParseJWS(q.JWS, q.Payload)
		if err != nil {
			return nil, err
		}
		reason := c.noVerifier("jws", api.OpVerifyJWS)
		tries := 0
		for _, t := range tokens {
			for _, by := range c.verifiers(t, api.OpVerifyJWS, q.Key) {
				if tries++; tries > maxTries {
					return nil, reason
				}
				c.rec.Key, c.rec.KID, c.rec.Alg, c.rec.Digest = by.name, by.kid, string(t.Alg), encode(t.Digest)
				payload, err := by.verify(ctx, t)
				switch {
				case err == nil:
					return &api.VerifyJWSResponse{Payload: payload, Header: headerOf(t), Key: by.name}, nil
				case signer.Code(err) != signer.Code(signer.ErrInvalid):
					return nil, err // the backend is at fault, not the JWS
				}
				reason = err
			}
		}
		return nil, reason
	})
}

// noVerifier says that no key may have signed, or that none is known that may.
func (c *call) noVerifier(what string, op api.Op) error {
	if c.unseen(c.Policy.Keys(c.peer, op)) {
		return fmt.Errorf("%w: %s: its kid may be that of a version whose backend has not answered yet", signer.ErrUnavailable, what)
	}
	return fmt.Errorf("%w: %s: no key or issuer that uid %d may verify with has its kid and alg", signer.ErrInvalid, what, c.peer.UID)
}

// allowAny refuses a peer that may do op with no key at all.
func (c *call) allowAny(op api.Op) error {
	if !c.Policy.AllowsAny(c.peer, op) {
		return fmt.Errorf("%w: no grant lets uid %d %s", signer.ErrDenied, c.peer.UID, op)
	}
	return nil
}

func headerOf(t *signer.SignedToken) api.JWSHeader {
	return api.JWSHeader{Alg: string(t.Alg), KID: t.KID, Typ: t.Typ, Cty: t.Cty}
}
