//go:build !cgo

package pkcs11

import (
	"context"
	"fmt"

	"signetd/signer"
)

// A Backend is a token that is logged in to. This build cannot open one.
type Backend struct{}

var _ signer.Backend = (*Backend)(nil)

// Open returns an error that wraps signer.ErrUnsupported.
func Open(context.Context, Config) (*Backend, error) { return nil, errNoCgo() }

// OpenKey returns an error that wraps signer.ErrUnsupported.
func (*Backend) OpenKey(context.Context, string) (signer.Key, error) { return nil, errNoCgo() }

// Ping returns an error that wraps signer.ErrUnsupported.
func (*Backend) Ping(context.Context) error { return errNoCgo() }

// Stats returns zeros.
func (*Backend) Stats() Stats { return Stats{} }

// Close does nothing.
func (*Backend) Close() error { return nil }

func errNoCgo() error {
	return fmt.Errorf("%w: pkcs11: this binary was built without cgo; the one built with CGO_ENABLED=1 and a C compiler (make build) has PKCS#11", signer.ErrUnsupported)
}

// Inspect reports that this build has no PKCS#11.
func Inspect(_ context.Context, cfg Config, _ []KeyRef) Report {
	r := Report{Module: ModuleReport{Path: cfg.Module}, Slots: []SlotReport{}, Keys: []KeyReport{}}
	r.add(Fail, "build", "signetd", errNoCgo().Error(), "run a signetd that was built with cgo")
	return r
}
