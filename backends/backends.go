// Package backends opens what the config names. It is the only one that imports
// every backend.
package backends

import (
	"context"
	"fmt"

	"signetd/backends/pkcs11"
	"signetd/backends/software"
	"signetd/signer"
)

// A Config names a backend and says what it is: exactly one of the fields beside
// Name is set.
type Config struct {
	Name     string           `yaml:"name"`
	PKCS11   *pkcs11.Config   `yaml:"pkcs11"`
	Software *software.Config `yaml:"software"`
}

// Open opens the backend that c describes.
func Open(ctx context.Context, c Config) (signer.Backend, error) {
	if (c.PKCS11 == nil) == (c.Software == nil) {
		return nil, fmt.Errorf("%w: exactly one of pkcs11 and software", signer.ErrInvalid)
	}
	if c.Software != nil {
		return software.Open(ctx, *c.Software)
	}
	b, err := pkcs11.Open(ctx, *c.PKCS11)
	if err != nil {
		return nil, err // as it is: a nil *pkcs11.Backend in an interface is not nil
	}
	return b, nil
}
