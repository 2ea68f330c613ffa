//go:build noaws

package awskms_test

import (
	"errors"
	"strings"
	"testing"

	"signetd/backends/awskms"
	"signetd/signer"
)

func TestStub(t *testing.T) {
	b, err := awskms.Open(t.Context(), awskms.Config{Region: "eu-west-1"})
	if b != nil || !errors.Is(err, signer.ErrUnsupported) || !strings.Contains(err.Error(), "noaws") {
		t.Errorf("Open() = %v, %v; want ErrUnsupported and the build tag's name", b, err)
	}
	var none awskms.Backend
	if _, err := none.OpenKey(t.Context(), "alias/x"); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("OpenKey() = %v, want ErrUnsupported", err)
	}
	if err := none.Ping(t.Context()); !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("Ping() = %v, want ErrUnsupported", err)
	}
}
