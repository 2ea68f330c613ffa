package client

import (
	"context"
	"fmt"
	"slices"

	"signetd/daemon/api"
	"signetd/signer"
)

// A Backend is a daemon as a [signer.Backend], in which a ref is the name of a key. It is
// safe for concurrent use.
type Backend struct{ client *Client }

var _ signer.Backend = (*Backend)(nil)

// Backend returns c as a [signer.Backend].
func (c *Client) Backend() *Backend { return &Backend{c} }

// OpenKey implements [signer.Backend]. It opens the active version of the key that ref
// names, as a *[Signer] or a *[Decrypter]. For a key on which this process has no grant
// the error is signer.ErrNotFound.
func (b *Backend) OpenKey(ctx context.Context, ref string) (signer.Key, error) {
	list, err := b.client.Keys(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list.Keys, func(k api.Key) bool { return k.Name == ref })
	if i < 0 {
		return nil, fmt.Errorf("%w: this process has no grant on a key %.64q", signer.ErrNotFound, ref)
	}

	use := signer.Use(list.Keys[i].Use)
	k, err := b.client.pin(&list.Keys[i], use)
	switch {
	case err != nil:
		return nil, err
	case use == signer.UseEnc:
		return &Decrypter{*k}, nil
	default:
		return &Signer{*k}, nil
	}
}

// Ping implements [signer.Backend].
func (b *Backend) Ping(ctx context.Context) error {
	_, err := b.client.Health(ctx)
	return err
}

// Close implements [signer.Backend]: it closes the client.
func (b *Backend) Close() error { return b.client.Close() }
