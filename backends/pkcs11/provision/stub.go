//go:build !cgo

package provision

import (
	"fmt"

	"signetd/signer"
)

// InitToken returns an error that wraps signer.ErrUnsupported.
func InitToken(o InitOptions) (serial string, err error) {
	if err := o.check(); err != nil {
		return "", err
	}
	return "", errNoCgo()
}

// GenerateKey returns an error that wraps signer.ErrUnsupported.
func GenerateKey(o KeyOptions) (Key, error) {
	if err := o.check(); err != nil {
		return Key{}, err
	}
	return Key{}, errNoCgo()
}

func errNoCgo() error {
	return fmt.Errorf("%w: pkcs11: this binary was built without cgo; the one built with CGO_ENABLED=1 and a C compiler (make build) has PKCS#11", signer.ErrUnsupported)
}
