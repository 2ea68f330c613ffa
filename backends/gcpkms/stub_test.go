//go:build nogcp

package gcpkms_test

import (
	"errors"
	"strings"
	"testing"

	"signetd/backends/gcpkms"
	"signetd/signer"
)

func TestStub(t *testing.T) {
	b, err := gcpkms.Open(t.Context(), gcpkms.Config{})
	if b != nil || !errors.Is(err, signer.ErrUnsupported) || !strings.Contains(err.Error(), "nogcp") {
		t.Errorf("Open() = %v, %v; want ErrUnsupported and the build tag's name", b, err)
	}
	var none gcpkms.Backend
	if _, err := none.OpenKey(t.Context(), "projects/x"); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("OpenKey() = %v, want ErrUnsupported", err)
	}
	if _, err := none.Expand(t.Context(), "projects/x"); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("Expand() = %v, want ErrUnsupported", err)
	}
	if err := none.Ping(t.Context()); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("Ping() = %v, want ErrUnsupported", err)
	}
}
