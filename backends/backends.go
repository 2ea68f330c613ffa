// Package backends opens what the config names. It is the only one that imports
// every backend.
package backends

import (
	"context"
	"fmt"
	"strings"

	"signetd/backends/awskms"
	"signetd/backends/gcpkms"
	"signetd/backends/pkcs11"
	"signetd/backends/software"
	"signetd/signer"
)

// A Config names a backend and says what it is: exactly one of the fields beside
// Name is set.
type Config struct {
	Name     string           `yaml:"name"`
	PKCS11   *pkcs11.Config   `yaml:"pkcs11"`
	AWSKMS   *awskms.Config   `yaml:"awskms"`
	GCPKMS   *gcpkms.Config   `yaml:"gcpkms"`
	Software *software.Config `yaml:"software"`
}

// A choice is a field of [Config] that says what a backend is.
type choice struct {
	name string
	set  bool
	open func(ctx context.Context) (signer.Backend, error)
}

// choices are all there are.
func (c Config) choices() []choice {
	return []choice{
		{"pkcs11", c.PKCS11 != nil, func(ctx context.Context) (signer.Backend, error) { return opened(pkcs11.Open(ctx, *c.PKCS11)) }},
		{"awskms", c.AWSKMS != nil, func(ctx context.Context) (signer.Backend, error) { return opened(awskms.Open(ctx, *c.AWSKMS)) }},
		{"gcpkms", c.GCPKMS != nil, func(ctx context.Context) (signer.Backend, error) { return opened(gcpkms.Open(ctx, *c.GCPKMS)) }},
		{"software", c.Software != nil, func(ctx context.Context) (signer.Backend, error) { return opened(software.Open(ctx, *c.Software)) }},
	}
}

// opened is what a backend's Open returned, with an interface that is nil if there is
// no backend: one that holds a nil pointer is not.
func opened[B signer.Backend](b B, err error) (signer.Backend, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Open opens the backend that c describes.
func Open(ctx context.Context, c Config) (signer.Backend, error) {
	var chosen *choice
	var names []string
	for _, x := range c.choices() {
		names = append(names, x.name)
		switch {
		case x.set && chosen != nil:
			return nil, fmt.Errorf("%w: %s and %s: exactly one says what a backend is", signer.ErrInvalid, chosen.name, x.name)
		case x.set:
			chosen = &x
		}
	}
	if chosen == nil {
		return nil, fmt.Errorf("%w: none of %s: exactly one says what a backend is", signer.ErrInvalid, strings.Join(names, ", "))
	}
	return chosen.open(ctx)
}
