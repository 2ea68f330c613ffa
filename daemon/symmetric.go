package daemon

import (
	"context"
	"errors"
	"fmt"

	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/signer"
)

// signMAC makes a bare MAC.
func signMAC(ctx context.Context, c *call, q *api.SignMACRequest) (*api.SignMACResponse, error) {
	c.rec().Digest = hashInRecord(q.Message)
	if _, _, err := c.macVersion(q.KID, q.Alg); err != nil {
		return nil, err
	}

	var mac []byte
	v, err := c.sign(ctx, q.KID, q.Alg, func(v *signer.Version, alg signer.Alg) (err error) {
		mac, err = v.SignMessage(ctx, alg, q.Message)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.SignMACResponse{MAC: mac, KID: v.KID()}, nil
}

// verifyMAC says which version of a key made a MAC. Without a kid it tries those that are
// or were active. The comparison takes the same time wherever the MAC is wrong, and a wrong
// MAC counts as a refusal, so that guessing is slow.
func verifyMAC(ctx context.Context, c *call, q *api.VerifyMACRequest) (*api.VerifyMACResponse, error) {
	active, alg, err := c.macVersion(q.KID, q.Alg)
	if err != nil {
		return nil, err
	}
	c.rec().Digest = hashInRecord(q.Message)
	tries := []*signer.Version{active}
	if q.KID == "" {
		tries = c.begun(c.key)
	}

	failure := fmt.Errorf("%w: mac: does not verify", signer.ErrInvalid)
	for _, v := range tries {
		ok, err := v.Verify(ctx, alg, q.Message, q.MAC)
		switch {
		case errors.Is(err, signer.ErrUnavailable) && ctx.Err() == nil:
			failure = err // another version may have made it; if none did, this one might have
		case err != nil:
			return nil, err
		case ok:
			c.use(c.key, v, alg)
			return &api.VerifyMACResponse{KID: v.KID()}, nil
		}
	}
	return nil, failure
}

// macVersion is version for a key that makes MACs.
func (c *call) macVersion(kid, want string) (*signer.Version, signer.Alg, error) {
	v, alg, err := c.version(kid, want)
	if err == nil && alg.Family() != signer.FamilyHMAC {
		err = fmt.Errorf("%w: alg: %s makes signatures, not MACs", signer.ErrUnsupported, alg)
	}
	return v, alg, err
}

// wrapKey wraps a key of any kind with the active version of one of the daemon's.
func wrapKey(ctx context.Context, c *call, q *api.WrapKeyRequest) (*api.WrapKeyResponse, error) {
	v, alg, err := c.active(q.Alg)
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
	c.rec().Object = hashInRecord(wrapped)
	return &api.WrapKeyResponse{EncryptedKey: wrapped, KID: v.KID(), Alg: string(alg)}, nil
}

func forgetWrapKey(q *api.WrapKeyRequest) { clear(q.PlainKey) }

func noteUnwrapKey(rec *audit.Record, q *api.UnwrapKeyRequest) {
	rec.Object = hashInRecord(q.EncryptedKey)
}

// unwrapKey undoes wrapKey. Whatever is wrong with the wrapped key is ErrDecrypt.
func unwrapKey(ctx context.Context, c *call, q *api.UnwrapKeyRequest) (*api.UnwrapKeyResponse, error) {
	v, alg, err := c.version(q.KID, q.Alg)
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
}

// wrapForm reads the form of AES key wrap. RSA has no forms, which is 0.
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
