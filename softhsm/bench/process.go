//go:build linux && cgo

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A processTarget starts pkcs11-tool for each signature: what scripts do.
type processTarget struct {
	ctx                    context.Context //nolint:containedctx // the life of the processes
	module, token, pin, id string          // the id in hexadecimal digits: pkcs11-tool signs with the first key otherwise
	dir                    string
}

func newProcessTarget(ctx context.Context, module, token, pin, id, alg string) (*processTarget, error) {
	if alg != "ES256" {
		return nil, fmt.Errorf("no process for %s", alg)
	}
	dir, err := os.MkdirTemp("", "signetd-bench-process-")
	return &processTarget{ctx, module, token, pin, id, dir}, err
}

func (t *processTarget) weight() int { return 1 }

// close removes the files.
func (t *processTarget) close() error { return os.RemoveAll(t.dir) }

// client implements target.
func (t *processTarget) client(i int) (func() error, error) {
	in, out := filepath.Join(t.dir, fmt.Sprint(i)), filepath.Join(t.dir, fmt.Sprint(i, ".sig"))
	digest := sha256.Sum256(signingInput(i))
	if err := os.WriteFile(in, digest[:], 0o600); err != nil {
		return nil, err
	}
	return func() error {
		cmd := exec.CommandContext(t.ctx, "pkcs11-tool", "--module", t.module, "--token-label", t.token, "--login", "--pin", t.pin, // #nosec G204 G702 -- fixed words, and what this program made
			"--sign", "--mechanism", "ECDSA", "--id", t.id, "--input-file", in, "--output-file", out)
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pkcs11-tool: %w: %.200s", err, text)
		}
		sig, err := os.ReadFile(out) // #nosec G304 -- in our own folder
		if err == nil && len(sig) != 64 {
			err = errors.New("pkcs11-tool wrote no signature")
		}
		return err
	}, nil
}
