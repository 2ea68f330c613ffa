//go:build !nogcp

package gcpkms_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signetd/backends/gcpkms"
	"signetd/signer"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()

	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}

	bad := map[string]gcpkms.Config{
		"endpoint without a port":   {Endpoint: "kms.example"},
		"a URL":                     {Endpoint: "https://kms.example/"},
		"plaintext elsewhere":       {Endpoint: "kms.example:443", Plaintext: true},
		"plaintext to a name":       {Endpoint: "localhost:443", Plaintext: true},
		"plaintext without":         {Plaintext: true},
		"plaintext and credentials": {Endpoint: "127.0.0.1:1", Plaintext: true, CredentialsFile: "/x"},
		"timeout":                   {AttemptTimeout: "5"},
		"short timeout":             {AttemptTimeout: "1ms"},
		"attempts":                  {Attempts: 11},
		"rate":                      {Rate: -1},
		"credentials missing":       {CredentialsFile: filepath.Join(dir, "none")},
		"credentials for all":       {CredentialsFile: write("open", `{"type":"service_account"}`, 0o644)},
		"no JSON":                   {CredentialsFile: write("text", `secret-value`, 0o600)},
		"unknown type":              {CredentialsFile: write("other", `{"type":"secret-value"}`, 0o600)},
	}

	for name, c := range bad {
		b, err := gcpkms.Open(t.Context(), c)
		if !errors.Is(err, signer.ErrInvalid) || strings.Contains(err.Error(), "secret-value") {
			t.Errorf("Open(%s) = %v, want ErrInvalid without what the file holds", name, err)
		}
		if b != nil && err != nil {
			t.Errorf("Open(%s) returned a backend and an error", name)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := gcpkms.Open(ctx, gcpkms.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open(cancelled) = %v, want context.Canceled", err)
	}
}
