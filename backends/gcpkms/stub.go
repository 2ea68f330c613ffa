//go:build nogcp

package gcpkms

import (
	"context"
	"fmt"

	"signetd/signer"
)

// A Backend is a connection to Google Cloud KMS. This build has none.
type Backend struct{}

var (
	_ signer.Backend  = (*Backend)(nil)
	_ signer.Expander = (*Backend)(nil)
)

// Open returns an error that wraps signer.ErrUnsupported.
func Open(context.Context, Config) (*Backend, error) { return nil, errLeftOut() }

// OpenKey returns an error that wraps signer.ErrUnsupported.
func (*Backend) OpenKey(context.Context, string) (signer.Key, error) { return nil, errLeftOut() }

// Expand returns an error that wraps signer.ErrUnsupported.
func (*Backend) Expand(context.Context, string) ([]signer.Expanded, error) { return nil, errLeftOut() }

// Ping returns an error that wraps signer.ErrUnsupported.
func (*Backend) Ping(context.Context) error { return errLeftOut() }

// Close does nothing.
func (*Backend) Close() error { return nil }

func errLeftOut() error {
	return fmt.Errorf("%w: gcpkms: this binary was built with the tag nogcp; one built without it (make build) has Google Cloud KMS", signer.ErrUnsupported)
}
