//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// toolArgs are pkcs11-tool's for each algorithm.
var toolArgs = map[string][]string{
	"ES256":        {"--sign", "--mechanism", "ECDSA"},
	"RS256":        {"--sign", "--mechanism", "SHA256-RSA-PKCS"},
	"PS256":        {"--sign", "--mechanism", "SHA256-RSA-PKCS-PSS"},
	"EdDSA":        {"--sign", "--mechanism", "EDDSA"},
	"RSA-OAEP-256": {"--decrypt", "--mechanism", "RSA-X-509"},
}

// A processTarget starts pkcs11-tool for each operation: what scripts do.
type processTarget struct {
	ctx   context.Context //nolint:containedctx // the life of the processes
	job   job             // whose id matters: pkcs11-tool uses the first key otherwise
	args  []string
	dir   string
	input func(i int) []byte
}

func newProcessTarget(ctx context.Context, j job) (*processTarget, error) {
	t := &processTarget{ctx: ctx, job: j, args: toolArgs[j.Alg], input: signingInput}
	if t.args == nil {
		return nil, fmt.Errorf("no process for %s", j.Alg)
	}
	switch j.Alg {
	case "ES256":
		t.input = func(i int) []byte { d := sha256.Sum256(signingInput(i)); return d[:] }
	case "RSA-OAEP-256":
		t.input = func(int) []byte { return append(make([]byte, 255), 2) } // any number will do
	}
	var err error
	t.dir, err = os.MkdirTemp("", "signetd-bench-process-")
	return t, err
}

func (t *processTarget) weight() int { return 1 }

// close removes the files.
func (t *processTarget) close() error { return os.RemoveAll(t.dir) }

// client implements target.
func (t *processTarget) client(i int) (func() error, error) {
	in, out := filepath.Join(t.dir, fmt.Sprint(i)), filepath.Join(t.dir, fmt.Sprint(i, ".out"))
	if err := os.WriteFile(in, t.input(i), 0o600); err != nil {
		return nil, err
	}
	args := append([]string{"--module", t.job.Module, "--token-label", t.job.Token, "--login", "--pin", t.job.PIN,
		"--id", t.job.ID, "--input-file", in, "--output-file", out}, t.args...)
	return func() error {
		if text, err := exec.CommandContext(t.ctx, "pkcs11-tool", args...).CombinedOutput(); err != nil { // #nosec G204 G702 -- fixed words, and what this program made
			return fmt.Errorf("pkcs11-tool: %w: %.200s", err, bytes.TrimSpace(text))
		}
		info, err := os.Stat(out)
		if err == nil && info.Size() == 0 {
			err = errors.New("pkcs11-tool wrote nothing")
		}
		return errors.Join(err, os.Remove(out))
	}, nil
}
