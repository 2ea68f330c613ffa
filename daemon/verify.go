package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// verifyJWT verifies a token of one of the keys, or of one of the trusted issuers, that the
// peer may verify with: signature, algorithm, typ, issuer, audience and times, all as the
// rules have them and none as the token says.
func verifyJWT(ctx context.Context, c *call, q *api.VerifyJWTRequest) (*api.VerifyJWTResponse, error) {
	t, err := signer.ParseSigned(q.Token)
	if err != nil {
		return nil, err
	}

	by, claims, err := c.verifyClaims(ctx, t, policy.Want{Issuer: q.Issuer, Audience: q.Audience})
	if by != nil {
		rec := c.rec()
		rec.Key, rec.KID, rec.Alg = by.name, by.kid, string(t.Alg)
	}
	if err != nil {
		return nil, err
	}
	return &api.VerifyJWTResponse{Claims: json.RawMessage(claims.Payload), Header: jwsHeader(t), Key: by.name}, nil
}

// verifyClaims verifies t, notes in the record which token it is, and returns its claims
// and the key that signed it. If a key of t was found, by is returned with an error, too.
func (c *call) verifyClaims(ctx context.Context, t *signer.SignedToken, want policy.Want) (by *verifier, claims *policy.Claims, err error) {
	c.rec().Digest = inRecord(t.Digest)
	for _, v := range c.verifiers(t, api.OpVerify, "") {
		payload, verr := v.verify(ctx, t)
		if verr == nil {
			claims, verr = v.accept.Verify(policy.Token{Payload: payload, Alg: t.Alg, Typ: t.Typ}, want, c.now)
		}

		switch {
		case verr == nil:
			c.rec().JTI, c.rec().Exp = clip(claims.JTI), claims.Exp.Unix()
			return &v, claims, nil
		case signer.Code(verr) != signer.Code(signer.ErrInvalid):
			return &v, nil, verr // the backend is at fault, not the token
		case by == nil || ruleOf(err) == "":
			by, err = &v, verr // that a rule refuses it says more than that another key is wrong
		}
	}

	if by == nil {
		err = c.noVerifier("token", api.OpVerify)
	}
	return by, nil, err
}

func grantVerifyJWS(a *applicant, q *api.VerifyJWSRequest) (string, error) {
	return a.mayNamed(api.OpVerifyJWS, q.Key)
}

// verifyJWS verifies any payload that one of the keys, or of a trusted issuer's, signed. Of
// several signatures one by such a key is enough.
func verifyJWS(ctx context.Context, c *call, q *api.VerifyJWSRequest) (*api.VerifyJWSResponse, error) {
	tokens, err := signer.ParseJWS(q.JWS, q.Payload)
	if err != nil {
		return nil, err
	}

	reason := c.noVerifier("jws", api.OpVerifyJWS)
	tries := 0
	for _, t := range tokens {
		for _, by := range c.verifiers(t, api.OpVerifyJWS, c.key) {
			if tries++; tries > maxTries {
				return nil, reason
			}

			rec := c.rec()
			rec.Key, rec.KID, rec.Alg, rec.Digest = by.name, by.kid, string(t.Alg), inRecord(t.Digest)
			payload, err := by.verify(ctx, t)
			switch {
			case err == nil:
				return &api.VerifyJWSResponse{Payload: payload, Header: jwsHeader(t), Key: by.name}, nil
			case signer.Code(err) != signer.Code(signer.ErrInvalid):
				return nil, err // the backend is at fault, not the JWS
			}
			reason = err
		}
	}
	return nil, reason
}

// noVerifier says that no key may have signed, or that none is known that may.
func (c *call) noVerifier(what string, op api.Op) error {
	if anyUnseen(c.ring, c.gen.setup.Policy.Keys(c.peer, op)) {
		return fmt.Errorf("%w: %s: its kid may be that of a version whose backend has not answered yet", signer.ErrUnavailable, what)
	}
	return fmt.Errorf("%w: %s: no key or issuer that uid %d may verify with has its kid and alg", signer.ErrInvalid, what, c.peer.UID)
}

// maxTries bounds the keys that are tried on one token which does not say whose it is.
const maxTries = 16

// A verifier is one key that may have signed a token.
type verifier struct {
	name   string // of the key or the issuer
	kid    string
	accept *policy.Verifier // nil for a key without claim rules
	verify func(context.Context, *signer.SignedToken) ([]byte, error)
}

// verifiers returns the keys of the ring and of trusted issuers that may have signed t and
// on which the peer may do op; only the named one, unless only is empty. A key of the ring
// always signs with its kid. Of an issuer's keys it is those with the kid of t, or
// all of them if they or t have none.
func (c *call) verifiers(t *signer.SignedToken, op api.Op, only string) (list []verifier) {
	wanted := func(name string) bool { return (only == "" || only == name) && c.may(op, name) == nil }

	if name, v, err := c.ring.Version(t.KID); err == nil && wanted(name) {
		own := verifier{name: name, kid: v.KID(), verify: v.VerifyJWS}
		if rules := c.gen.setup.Policy.Rules(name); rules != nil {
			own.accept = rules.Verifier()
		}
		list = append(list, own)
	}

	for _, is := range c.gen.setup.Issuers {
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

func jwsHeader(t *signer.SignedToken) api.JWSHeader {
	return api.JWSHeader{Alg: string(t.Alg), KID: t.KID, Typ: t.Typ, Cty: t.Cty}
}
