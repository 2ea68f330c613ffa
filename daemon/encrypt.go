package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
	"signetd/signer"
)

// encryptJWE encrypts to the active version of a key, to a configured recipient, or to the
// public key in the request.
func encryptJWE(ctx context.Context, c *call, q *api.EncryptJWERequest) (*api.EncryptJWEResponse, error) {
	to, err := c.encryptTo(q)
	if err != nil {
		return nil, err
	}
	if err := checkSerialization(q.Serialization); err != nil {
		return nil, err
	}

	jwe, err := to.encrypt(ctx, q.Enc, headerOf(q.Header), q.Plaintext)
	if err != nil {
		return nil, err
	}
	if form := q.Serialization; form == api.Flattened || form == api.General {
		jwe = signer.FlattenJWE(jwe, form == api.General)
	}
	return &api.EncryptJWEResponse{JWE: jwe, KID: to.kid}, nil
}

// encryptTo returns who q is encrypted to, and notes it in the record.
func (c *call) encryptTo(q *api.EncryptJWERequest) (*addressee, error) {
	if q.Recipient == nil {
		to, err := c.addressee(c.key)
		if err == nil {
			c.rec().KID, c.rec().Alg = to.kid, string(to.alg)
		}
		return to, err
	}

	to, err := jwkAddressee(q.Recipient)
	if err != nil {
		return nil, err
	}
	if q.Key != "" {
		return nil, fmt.Errorf("%w: key and recipient: give one of them", signer.ErrInvalid)
	}
	c.rec().To = to.name
	return to, nil
}

// An addressee is a party that something is encrypted to.
type addressee struct {
	name    string // of the key or the recipient, or for the records that of a JWK
	kid     string
	alg     signer.Alg
	encrypt func(ctx context.Context, enc string, header signer.Header, plaintext []byte) (string, error)
}

// addressee returns the key or the configured recipient of the given name. The peer must
// have the grant to encrypt to it.
func (c *call) addressee(name string) (*addressee, error) {
	recipients := c.gen.setup.Recipients
	i := slices.IndexFunc(recipients, func(r Recipient) bool { return r.Name == name })
	if i < 0 {
		v, err := c.ring.Active(name, c.now)
		if err != nil {
			return nil, err
		}
		alg, err := v.EncryptAlg()
		if err != nil {
			return nil, err
		}
		return &addressee{name, v.KID(), alg, v.EncryptJWE}, nil
	}

	r := recipients[i]
	return &addressee{name, r.KID, r.Alg, func(_ context.Context, enc string, header signer.Header, plaintext []byte) (string, error) {
		if r.Enc != "" && enc != "" && enc != r.Enc {
			return "", fmt.Errorf("%w: enc: %s takes %s alone", signer.ErrDenied, r.Name, r.Enc)
		}
		return signer.EncryptJWE(r.Public, r.KID, r.Alg, cmp.Or(enc, r.Enc), header, plaintext)
	}}, nil
}

// jwkAddressee is the addressee of a public key in a request. The peer must have the grant
// to encrypt to such keys.
func jwkAddressee(jwk *jose.JSONWebKey) (*addressee, error) {
	switch {
	case !jwk.IsPublic() || !jwk.Valid():
		return nil, fmt.Errorf("%w: recipient: not a public key", signer.ErrInvalid)
	case jwk.Algorithm == "" || (jwk.Use != "" && jwk.Use != string(signer.UseEnc)):
		return nil, fmt.Errorf("%w: recipient: it needs an alg, and its use must be enc or missing", signer.ErrInvalid)
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
