package daemon

import (
	"context"
	"fmt"

	"signetd/daemon/api"
	"signetd/signer"
)

// WrapKey wraps a key of whatever kind with the active version of one of ours.
func (s *Service) WrapKey(ctx context.Context, r Request, q *api.WrapKeyRequest) (*api.WrapKeyResponse, error) {
	defer clear(q.PlainKey)
	return do(ctx, s, r, api.OpWrapKey, q.Key, func(ctx context.Context, c *call) (*api.WrapKeyResponse, error) {
		if err := c.allow(api.OpWrapKey, q.Key); err != nil {
			return nil, err
		}
		v, alg, err := c.active(q.Key, q.Alg)
		if err != nil {
			return nil, err
		}
		form, err := wrapForm(alg, q.Form)
		if err != nil {
			return nil, err
		}
		wrapped, err := v.WrapKey(ctx, alg, form, q.PlainKey)
		if err != nil {
			return nil, err
		}
		c.rec.Object = hash(wrapped)
		return &api.WrapKeyResponse{EncryptedKey: wrapped, KID: v.KID(), Alg: string(alg)}, nil
	})
}

// UnwrapKey undoes WrapKey. Whatever is wrong with the wrapped key is ErrDecrypt.
func (s *Service) UnwrapKey(ctx context.Context, r Request, q *api.UnwrapKeyRequest) (*api.UnwrapKeyResponse, error) {
	return do(ctx, s, r, api.OpUnwrapKey, q.Key, func(ctx context.Context, c *call) (*api.UnwrapKeyResponse, error) {
		c.rec.Object = hash(q.EncryptedKey)
		if err := c.allow(api.OpUnwrapKey, q.Key); err != nil {
			return nil, err
		}
		v, alg, err := c.version(q.Key, q.KID, q.Alg)
		if err != nil {
			return nil, err
		}
		form, err := wrapForm(alg, q.Form)
		if err != nil {
			return nil, err
		}
		key, err := v.UnwrapKey(ctx, alg, form, q.EncryptedKey)
		if err != nil {
			return nil, err
		}
		return &api.UnwrapKeyResponse{PlainKey: key, KID: v.KID()}, nil
	})
}

// wrapForm reads the form of AES key wrap. RSA has none, which is 0.
func wrapForm(alg signer.Alg, form string) (signer.WrapForm, error) {
	switch {
	case form == "" && alg.Family() != signer.FamilyAESKW:
		return 0, nil
	case form == "" || form == api.FormRFC3394:
		return signer.WrapRFC3394, nil
	case form == api.FormRFC5649:
		return signer.WrapRFC5649, nil
	default:
		return 0, fmt.Errorf("%w: form: %s or %s", signer.ErrInvalid, api.FormRFC3394, api.FormRFC5649)
	}
}
