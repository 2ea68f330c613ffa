package daemon

import (
	"context"
	"fmt"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// signJWT signs claims that keep the key's rules.
func signJWT(ctx context.Context, c *call, q *api.SignJWTRequest) (*api.SignJWTResponse, error) {
	jws, v, err := c.signClaims(ctx, api.OpSignJWT, q)
	if err != nil {
		return nil, err
	}
	return &api.SignJWTResponse{Token: jws.Compact(), KID: v.KID()}, nil
}

// signClaims signs the claims of q as the rules for op have them.
func (c *call) signClaims(ctx context.Context, op api.Op, q *api.SignJWTRequest) (*signer.JWS, *signer.Version, error) {
	// The record is to name a version even if the claims are refused. The one that signs
	// is chosen below, since it may be another while a backend is away.
	if _, _, err := c.active(q.Alg); err != nil {
		return nil, nil, err
	}

	const mostSeconds = 1 << 31
	if q.TTL < 0 || q.TTL > mostSeconds {
		return nil, nil, fmt.Errorf("%w: ttl: not a number of seconds between 0 and %d", signer.ErrInvalid, mostSeconds)
	}
	head := headerOf(q.Header)
	claims, err := c.gen.setup.Policy.Apply(c.peer, op, c.key, policy.ClaimsRequest{
		Claims: q.Claims, TTL: time.Duration(q.TTL) * time.Second, Typ: head.Typ, Cty: head.Cty, Sealed: op == api.OpSealJWT,
	}, c.now)
	if err != nil {
		return nil, nil, err
	}

	rec := c.rec()
	rec.JTI, rec.Exp = clip(claims.JTI), claims.Exp.Unix()
	for _, d := range claims.Would {
		rec.WouldDeny = append(rec.WouldDeny, audit.Denial{Rule: d.Rule, Claim: d.Claim})
	}
	return c.signPayload(ctx, q.Alg, signer.Header{Typ: c.gen.setup.Policy.Rules(c.key).Typ()}, claims.Payload)
}

// signPayload signs a payload under a protected header.
func (c *call) signPayload(ctx context.Context, alg string, h signer.Header, payload []byte) (jws *signer.JWS, v *signer.Version, err error) {
	v, err = c.sign(ctx, "", alg, func(v *signer.Version, alg signer.Alg) (err error) {
		jws, err = v.SignJWS(ctx, alg, h, payload)
		return err
	})
	if err == nil {
		c.rec().Digest = inRecord(jws.Digest)
	}
	return jws, v, err
}

// signJWS signs any payload.
func signJWS(ctx context.Context, c *call, q *api.SignJWSRequest) (*api.SignJWSResponse, error) {
	if _, _, err := c.active(q.Alg); err != nil { // see signClaims
		return nil, err
	}
	if err := checkSerialization(q.Serialization); err != nil {
		return nil, err
	}

	jws, v, err := c.signPayload(ctx, q.Alg, headerOf(q.Header), q.Payload)
	if err != nil {
		return nil, err
	}
	return &api.SignJWSResponse{JWS: serialize(jws, q), Protected: jws.Protected(), Signature: jws.Signature(), KID: v.KID()}, nil
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

// signDigest signs a bare digest.
func signDigest(ctx context.Context, c *call, q *api.SignDigestRequest) (*api.SignDigestResponse, error) {
	if q.Alg == "" {
		return nil, fmt.Errorf("%w: alg: missing", signer.ErrInvalid)
	}

	var sig []byte
	v, err := c.sign(ctx, q.KID, q.Alg, func(v *signer.Version, alg signer.Alg) (err error) {
		sig, err = v.Sign(ctx, alg, q.Digest)
		return err
	})
	if err != nil {
		return nil, err
	}

	rec := c.rec()
	rec.Digest = inRecord(q.Digest)
	if signer.Alg(rec.Alg).Hash() == 0 {
		// The algorithm signs the message itself, which must not be in a log.
		rec.Digest = hashInRecord(q.Digest)
	}
	return &api.SignDigestResponse{Signature: sig, KID: v.KID()}, nil
}
