package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"signetd/daemon/api"
	"signetd/signer"
)

// signJWS signs with the active version of a key, or while its backend is away with
// the one that is active instead.
func (c *call) signJWS(ctx context.Context, key, alg string, h signer.Header, payload []byte) (jws *signer.JWS, v *signer.Version, err error) {
	v, err = c.signing(ctx, key, alg, func(v *signer.Version, alg signer.Alg) (err error) {
		jws, err = v.SignJWS(ctx, alg, h, payload)
		return err
	})
	if err == nil {
		c.rec.Digest = encode(jws.Digest)
	}
	return jws, v, err
}

// signDigest signs with the version that q names, or as signJWS does if it names
// none.
func (c *call) signDigest(ctx context.Context, q *api.SignDigestRequest) (sig []byte, v *signer.Version, err error) {
	if q.KID != "" {
		v, alg, err := c.version(q.Key, q.KID, q.Alg)
		if err != nil {
			return nil, nil, err
		}
		sig, err = v.Sign(ctx, alg, q.Digest)
		return sig, v, err
	}
	v, err = c.signing(ctx, q.Key, q.Alg, func(v *signer.Version, alg signer.Alg) (err error) {
		sig, err = v.Sign(ctx, alg, q.Digest)
		return err
	})
	return sig, v, err
}

// signing has sign use the versions of a key that may sign now, one after the other
// until one is not unavailable, and returns that one. The record names the version
// that was used last.
func (c *call) signing(ctx context.Context, key, want string, sign func(*signer.Version, signer.Alg) error) (*signer.Version, error) {
	k, err := c.Ring.Key(key)
	if err != nil {
		return nil, err
	}
	versions, err := k.Candidates(c.now)
	if err != nil {
		return nil, err
	}
	var first error // of the version that is tried first: its trouble is the cause of all that follows
	for i, v := range versions {
		alg, err := v.Alg(signer.Alg(want))
		if err != nil {
			return nil, err
		}
		c.use(key, v, alg)
		if err = sign(v, alg); !errors.Is(err, signer.ErrUnavailable) {
			return v, err
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
		if i < len(versions)-1 {
			c.service.metrics.ObserveFailover(key, v.Backend())
		}
	}
	return nil, first
}

// active returns the version of a key that is encrypted to now and the algorithm to
// use, and notes both in the record.
func (c *call) active(key, want string) (*signer.Version, signer.Alg, error) {
	v, err := c.Ring.Active(key, c.now)
	return c.chosen(key, want, v, err)
}

// version returns the version of a key with the given kid, or the one that config and
// clock make the active one. One whose time has not come does not sign. It decrypts: its
// public key is out already.
func (c *call) version(key, kid, want string) (*signer.Version, signer.Alg, error) {
	if kid == "" {
		k, err := c.Ring.Key(key)
		if err != nil {
			return nil, "", err
		}
		v, err := k.Intended(c.now)
		return c.chosen(key, want, v, err)
	}
	name, v, err := c.Ring.Version(kid)
	switch {
	case err != nil && c.unseen([]string{key}):
		err = fmt.Errorf("%w: key %.64q has a version whose backend has not answered yet: the kid may be that one's", signer.ErrUnavailable, key)
	case err != nil || name != key || v.Use() == signer.UseSig && v.NotBefore().After(c.now):
		err = fmt.Errorf("%w: key %.64q has no version with that kid", signer.ErrNotFound, key)
	}
	return c.chosen(key, want, v, err)
}

func (c *call) chosen(key, want string, v *signer.Version, err error) (*signer.Version, signer.Alg, error) {
	if err != nil {
		return nil, "", err
	}
	alg, err := v.Alg(signer.Alg(want))
	if err != nil {
		return nil, "", err
	}
	c.use(key, v, alg)
	return v, alg, nil
}

// unseen reports whether one of the named keys has a version of which not even the
// kid is known.
func (c *call) unseen(names []string) bool {
	for _, k := range c.Ring.Keys() {
		if slices.Contains(names, k.Name) && slices.ContainsFunc(k.Versions, func(v *signer.Version) bool { return v.KID() == "" }) {
			return true
		}
	}
	return false
}
