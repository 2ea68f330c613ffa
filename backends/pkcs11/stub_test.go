//go:build !cgo

package pkcs11

import (
	"errors"
	"strings"
	"testing"

	"signetd/signer"
)

func TestStub(t *testing.T) {
	b, err := Open(t.Context(), Config{})
	if b != nil || !errors.Is(err, signer.ErrUnsupported) || !strings.Contains(err.Error(), "without cgo") {
		t.Errorf("Open = %v, %v, want ErrUnsupported that tells of cgo", b, err)
	}
}
