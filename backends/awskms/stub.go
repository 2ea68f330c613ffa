//go:build noaws

package awskms

import (
	"context"
	"fmt"

	"signetd/signer"
)

// A Backend is one account's keys in one region. This build has none.
type Backend struct{}

var _ signer.Backend = (*Backend)(nil)

// Open returns an error that wraps signer.ErrUnsupported.
func Open(context.Context, Config) (*Backend, error) { return nil, errLeftOut() }

// OpenKey returns an error that wraps signer.ErrUnsupported.
func (*Backend) OpenKey(context.Context, string) (signer.Key, error) { return nil, errLeftOut() }

// Ping returns an error that wraps signer.ErrUnsupported.
func (*Backend) Ping(context.Context) error { return errLeftOut() }

// Close does nothing.
func (*Backend) Close() error { return nil }

func errLeftOut() error {
	return fmt.Errorf("%w: awskms: this binary was built with the tag noaws; one built without it (make build) has AWS KMS", signer.ErrUnsupported)
}

// KeysFor returns nothing.
func KeysFor(signer.Alg) []string { return nil }
