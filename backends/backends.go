// Package backends opens what the config names. It is the only package that imports
// every backend, and this file is the only one that a new kind of backend changes
// outside its own package: one field of [Config] and one element of [Kinds].
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

// A Config names a backend and configures it. Exactly one of the fields beside Name
// is set: the one that says which kind of backend it is.
type Config struct {
	Name     string           `yaml:"name"`
	PKCS11   *pkcs11.Config   `yaml:"pkcs11"`
	AWSKMS   *awskms.Config   `yaml:"awskms"`
	GCPKMS   *gcpkms.Config   `yaml:"gcpkms"`
	Software *software.Config `yaml:"software"`
}

// Kinds returns every kind of backend there is, in the order of the fields of [Config].
//
// A backend that has metrics implements [signer.Metered], and nothing more is needed.
func Kinds() []Kind {
	return []Kind{
		kind("pkcs11", "PKCS#11", func(c Config) *pkcs11.Config { return c.PKCS11 }, pkcs11.Open, tokenKeys).byDevice(),
		kind("awskms", "AWS KMS", func(c Config) *awskms.Config { return c.AWSKMS }, awskms.Open, awskms.KeysFor),
		kind("gcpkms", "Google Cloud KMS", func(c Config) *gcpkms.Config { return c.GCPKMS }, gcpkms.Open, gcpkms.KeysFor),
		kind("software", "software", func(c Config) *software.Config { return c.Software }, software.Open, software.KeysFor),
	}
}

// A Kind is one kind of backend, such as AWS KMS.
type Kind struct {
	// Name is the name of the member of [Config] that configures a backend of this kind.
	Name string
	// Title is the kind's name for people.
	Title string
	// KeysFor returns the keys that can do an algorithm, in the backend's own words. It
	// is empty for an algorithm that no key of this kind can do.
	KeysFor func(signer.Alg) []string
	// ByDevice is whether the keys depend on the device. What KeysFor returns are not
	// names of keys then, but words that say what it depends on.
	ByDevice bool

	configured func(Config) bool
	open       func(context.Context, Config) (signer.Backend, error)
}

// kind returns a Kind that is configured by the field of [Config] that config
// returns, or not at all if that is nil.
func kind[C any, B signer.Backend](name, title string, config func(Config) *C, open func(context.Context, C) (B, error), keysFor func(signer.Alg) []string) Kind {
	return Kind{
		Name: name, Title: title, KeysFor: keysFor,
		configured: func(c Config) bool { return config(c) != nil },
		open: func(ctx context.Context, c Config) (signer.Backend, error) {
			b, err := open(ctx, *config(c))
			if err != nil {
				return nil, err // and not b: an interface that holds a nil pointer is not nil
			}
			return b, nil
		},
	}
}

func (k Kind) byDevice() Kind {
	k.ByDevice = true
	return k
}

// tokenKeys is KeysFor of PKCS#11: a token has the mechanisms that its vendor gave it.
func tokenKeys(alg signer.Alg) []string {
	if alg.Family() == signer.FamilyMLDSA {
		return nil // PKCS#11 3.2 has mechanisms for it, and the backend does not use them
	}
	return []string{"what the token has"}
}

// Open opens the backend that c describes. A Config that describes none or several is
// ErrInvalid; the other errors are those of the backend's own Open.
func Open(ctx context.Context, c Config) (signer.Backend, error) {
	var all, set []string
	var chosen Kind
	for _, k := range Kinds() {
		all = append(all, k.Name)
		if k.configured(c) {
			set = append(set, k.Name)
			chosen = k
		}
	}

	switch len(set) {
	case 0:
		return nil, fmt.Errorf("%w: a backend needs exactly one of %s, and has none of them", signer.ErrInvalid, strings.Join(all, ", "))
	case 1:
		return chosen.open(ctx, c)
	default:
		return nil, fmt.Errorf("%w: a backend needs exactly one of %s, and has %s", signer.ErrInvalid, strings.Join(all, ", "), strings.Join(set, " and "))
	}
}
