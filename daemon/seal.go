package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// nested is the cty of a JWE that holds a JWT (RFC 7519 section 5.2).
const nested = "JWT"

// sealJWT signs claims that keep the key's rules, and encrypts the token for a recipient.
// Secret claims may be in it.
func sealJWT(ctx context.Context, c *call, q *api.SealJWTRequest) (*api.SealJWTResponse, error) {
	if (q.To == "") == (q.Recipient == nil) {
		return nil, fmt.Errorf("%w: to and recipient: give one of them", signer.ErrInvalid)
	}

	// The peer needs a second grant, to encrypt to this recipient.
	var to *addressee
	var err error
	if q.Recipient != nil {
		if err = c.may(api.OpEncryptJWK, ""); err == nil {
			to, err = jwkAddressee(q.Recipient)
		}
	} else {
		if err = c.may(api.OpEncrypt, q.To); err == nil {
			to, err = c.addressee(q.To)
		}
	}
	if err != nil {
		return nil, err
	}
	c.rec().To = clip(to.name)

	jws, v, err := c.signClaims(ctx, api.OpSealJWT, &api.SignJWTRequest{Key: q.Key, Claims: q.Claims, TTL: q.TTL, Alg: q.Alg, Header: q.Header})
	if err != nil {
		return nil, err
	}
	jwe, err := to.encrypt(ctx, q.Enc, signer.Header{Cty: nested}, []byte(jws.Compact()))
	if err != nil {
		return nil, err
	}
	c.rec().Object = hashInRecord([]byte(jwe))
	return &api.SealJWTResponse{Token: jwe, KID: v.KID(), RecipientKID: to.kid}, nil
}

// grantOpenJWT asks for two grants: to open the JWE and to verify the token in it.
func grantOpenJWT(a *applicant, q *api.OpenJWTRequest) (string, error) {
	if err := a.mayAny(api.OpVerify); err != nil {
		return "", err
	}
	return a.mayNamed(api.OpOpenJWT, q.Key)
}

func noteOpenJWT(rec *audit.Record, q *api.OpenJWTRequest) {
	rec.Object = hashInRecord([]byte(q.Token))
}

// openJWT opens a nested JWT and verifies the token in it. What does not open is
// ErrDecrypt, as with decryptJWE. Once it is open, ErrInvalid says why the token is not
// valid: only a party that knows the content key could have made it.
func openJWT(ctx context.Context, c *call, q *api.OpenJWTRequest) (*api.OpenJWTResponse, error) {
	o, err := c.open(ctx, api.OpOpenJWT, q.Token)
	if err != nil {
		return nil, err
	}
	defer clear(o.plaintext)

	if !strings.EqualFold(strings.TrimPrefix(o.header.Cty, "application/"), nested) {
		return nil, fmt.Errorf("%w: token: its cty is not %s, so it holds no signed token", signer.ErrInvalid, nested)
	}
	t, err := signer.ParseSigned(string(o.plaintext))
	if err != nil {
		return nil, err
	}

	by, claims, err := c.verifyClaims(ctx, t, policy.Want{Issuer: q.Issuer, Audience: q.Audience})
	if by != nil {
		c.rec().SignedBy = by.name
	}
	if err != nil {
		return nil, err
	}
	return &api.OpenJWTResponse{Claims: json.RawMessage(claims.Payload), Header: jwsHeader(t), Key: by.name, Sealed: o.header}, nil
}
