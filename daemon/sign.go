package daemon

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// SignJWT signs claims that keep the key's rules.
func (s *Service) SignJWT(ctx context.Context, r Request, q *api.SignJWTRequest) (*api.SignJWTResponse, error) {
	return do(ctx, s, r, api.OpSignJWT, q.Key, func(ctx context.Context, c *call) (*api.SignJWTResponse, error) {
		if err := c.allow(api.OpSignJWT, q.Key); err != nil {
			return nil, err
		}
		v, jws, err := c.signClaims(ctx, api.OpSignJWT, q)
		if err != nil {
			return nil, err
		}
		return &api.SignJWTResponse{Token: jws.Compact(), KID: v.KID()}, nil
	})
}

// signClaims signs the claims of q, for op, as the rules have them.
func (c *call) signClaims(ctx context.Context, op api.Op, q *api.SignJWTRequest) (*signer.Version, *signer.JWS, error) {
	if _, _, err := c.active(q.Key, q.Alg); err != nil { // the record names it whatever is wrong with the claims
		return nil, nil, err
	}
	claims, err := c.claims(op, q)
	if err != nil {
		return nil, nil, err
	}
	c.rec.JTI, c.rec.Exp = clip(claims.JTI), claims.Exp.Unix()
	jws, v, err := c.signJWS(ctx, q.Key, q.Alg, signer.Header{Typ: c.Policy.Rules(q.Key).Typ()}, claims.Payload)
	return v, jws, err
}

// claims returns what is to be signed for q by the rules of the peer's grants, and
// notes in the record what they would have denied were they not in dry-run.
func (c *call) claims(op api.Op, q *api.SignJWTRequest) (*policy.Claims, error) {
	ttl, err := seconds(q.TTL)
	if err != nil {
		return nil, err
	}
	head := header(q.Header)
	asked := policy.ClaimsRequest{Claims: q.Claims, TTL: ttl, Typ: head.Typ, Cty: head.Cty, Sealed: op == api.OpSealJWT}
	claims, err := c.Policy.Apply(c.peer, op, q.Key, asked, c.now)
	if err != nil {
		return nil, err
	}
	for _, d := range claims.Would {
		c.rec.WouldDeny = append(c.rec.WouldDeny, audit.Denial{Rule: d.Rule, Claim: d.Claim})
	}
	return claims, nil
}

// SignJWS signs any payload.
func (s *Service) SignJWS(ctx context.Context, r Request, q *api.SignJWSRequest) (*api.SignJWSResponse, error) {
	return do(ctx, s, r, api.OpSignJWS, q.Key, func(ctx context.Context, c *call) (*api.SignJWSResponse, error) {
		if err := c.allow(api.OpSignJWS, q.Key); err != nil {
			return nil, err
		}
		if _, _, err := c.active(q.Key, q.Alg); err != nil {
			return nil, err
		}
		if err := checkForm(q.Serialization); err != nil {
			return nil, err
		}
		jws, v, err := c.signJWS(ctx, q.Key, q.Alg, header(q.Header), q.Payload)
		if err != nil {
			return nil, err
		}
		return &api.SignJWSResponse{JWS: serialize(jws, q), Protected: jws.Protected(), Signature: jws.Signature(), KID: v.KID()}, nil
	})
}

// checkForm refuses a serialization that is none.
func checkForm(form string) error {
	switch form {
	case "", api.Compact, api.Flattened, api.General:
		return nil
	}
	return fmt.Errorf("%w: serialization: %s, %s or %s", signer.ErrInvalid, api.Compact, api.Flattened, api.General)
}

func serialize(jws *signer.JWS, q *api.SignJWSRequest) string {
	switch {
	case q.Serialization == api.General && q.Detached:
		return jws.GeneralDetached()
	case q.Serialization == api.General:
		return jws.General()
	case q.Serialization == api.Flattened && q.Detached:
		return jws.FlattenedDetached()
	case q.Serialization == api.Flattened:
		return jws.Flattened()
	case q.Detached:
		return jws.Detached()
	default:
		return jws.Compact()
	}
}

// SignDigest signs a bare digest.
func (s *Service) SignDigest(ctx context.Context, r Request, q *api.SignDigestRequest) (*api.SignDigestResponse, error) {
	return do(ctx, s, r, api.OpSignDigest, q.Key, func(ctx context.Context, c *call) (*api.SignDigestResponse, error) {
		if err := c.allow(api.OpSignDigest, q.Key); err != nil {
			return nil, err
		}
		if q.Alg == "" {
			return nil, fmt.Errorf("%w: alg: none", signer.ErrInvalid)
		}
		sig, v, err := c.signDigest(ctx, q)
		if err != nil {
			return nil, err
		}
		c.rec.Digest = encode(q.Digest)
		if signer.Alg(c.rec.Alg).Hash() == 0 { // it is the message, which is for no log
			c.rec.Digest = hash(q.Digest)
		}
		return &api.SignDigestResponse{Signature: sig, KID: v.KID()}, nil
	})
}

func seconds(n int64) (time.Duration, error) {
	const most = 1 << 31
	if n < 0 || n > most {
		return 0, fmt.Errorf("%w: ttl: not a number of seconds between 0 and %d", signer.ErrInvalid, most)
	}
	return time.Duration(n) * time.Second, nil
}

func header(h *api.Header) signer.Header {
	if h == nil {
		return signer.Header{}
	}
	return signer.Header{Typ: h.Typ, Cty: h.Cty}
}

// encode is how the audit record has bytes: in base64url.
func encode(data []byte) string {
	var text [128]byte // most are a hash, of 86 at most
	return string(base64.RawURLEncoding.AppendEncode(text[:0], data))
}
