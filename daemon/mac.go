package daemon

import (
	"context"
	"errors"
	"fmt"

	"signetd/daemon/api"
	"signetd/signer"
)

// SignMAC makes a bare MAC.
func (s *Service) SignMAC(ctx context.Context, r Request, q *api.SignMACRequest) (*api.SignMACResponse, error) {
	return do(ctx, s, r, api.OpSignMAC, q.Key, func(ctx context.Context, c *call) (*api.SignMACResponse, error) {
		if err := c.allow(api.OpSignMAC, q.Key); err != nil {
			return nil, err
		}
		c.rec.Digest = hash(q.Message)
		v, alg, err := c.macVersion(q.Key, q.KID, q.Alg)
		if err != nil {
			return nil, err
		}
		var mac []byte
		sign := func(v *signer.Version, alg signer.Alg) (err error) {
			mac, err = v.SignMessage(ctx, alg, q.Message)
			return err
		}
		if q.KID != "" {
			err = sign(v, alg)
		} else {
			v, err = c.signing(ctx, q.Key, q.Alg, sign)
		}
		if err != nil {
			return nil, err
		}
		return &api.SignMACResponse{MAC: mac, KID: v.KID()}, nil
	})
}

// VerifyMAC says which version of a key made a MAC. Without a kid it tries those
// that are or were active. The comparison takes the same time wherever the MAC is
// wrong, and a wrong one counts as a refusal, so that the brake slows a guesser.
func (s *Service) VerifyMAC(ctx context.Context, r Request, q *api.VerifyMACRequest) (*api.VerifyMACResponse, error) {
	return do(ctx, s, r, api.OpVerifyMAC, q.Key, func(ctx context.Context, c *call) (*api.VerifyMACResponse, error) {
		if err := c.allow(api.OpVerifyMAC, q.Key); err != nil {
			return nil, err
		}
		active, alg, err := c.macVersion(q.Key, q.KID, q.Alg)
		if err != nil {
			return nil, err
		}
		c.rec.Digest = hash(q.Message)
		tries := []*signer.Version{active}
		if q.KID == "" {
			tries = c.begun(q.Key)
		}
		failure := fmt.Errorf("%w: mac: does not verify", signer.ErrInvalid)
		for _, v := range tries {
			ok, err := v.Verify(ctx, alg, q.Message, q.MAC)
			switch {
			case errors.Is(err, signer.ErrUnavailable) && ctx.Err() == nil:
				failure = err // another may have made it; if none did, this one might have
			case err != nil:
				return nil, err
			case ok:
				c.use(q.Key, v, alg)
				return &api.VerifyMACResponse{KID: v.KID()}, nil
			}
		}
		return nil, failure
	})
}

// macVersion is version for a key that makes MACs.
func (c *call) macVersion(key, kid, want string) (*signer.Version, signer.Alg, error) {
	v, alg, err := c.version(key, kid, want)
	if err == nil && alg.Family() != signer.FamilyHMAC {
		err = fmt.Errorf("%w: alg: %s makes signatures, not MACs", signer.ErrUnsupported, alg)
	}
	return v, alg, err
}

// begun returns the versions of a key whose time has come.
func (c *call) begun(key string) (list []*signer.Version) {
	k, err := c.Ring.Key(key)
	if err != nil {
		return nil
	}
	for _, v := range k.Versions {
		if !v.NotBefore().After(c.now) {
			list = append(list, v)
		}
	}
	return list
}
