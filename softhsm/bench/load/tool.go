//go:build linux && cgo

package load

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

// toolArgs are pkcs11-tool's arguments for each algorithm.
var toolArgs = map[string][]string{
	"ES256": {"--sign", "--mechanism", "ECDSA"},
	"RS256": {"--sign", "--mechanism", "SHA256-RSA-PKCS"},
	"PS256": {"--sign", "--mechanism", "SHA256-RSA-PKCS-PSS"},
	"EdDSA": {"--sign", "--mechanism", "EDDSA"},
	oaep:    {"--decrypt", "--mechanism", "RSA-X-509"},
}

// A tool starts pkcs11-tool for each operation, as scripts do.
type tool struct {
	ctx   context.Context //nolint:containedctx // the life of the processes
	job   Job             // with the key's ID: without it pkcs11-tool takes the first key of the token
	dir   string
	input func(i int) []byte
}

func newTool(ctx context.Context, j Job) (*tool, error) {
	if toolArgs[j.Alg] == nil {
		return nil, fmt.Errorf("pkcs11-tool is not measured with %s", j.Alg)
	}

	t := &tool{ctx: ctx, job: j, input: SigningInput}
	switch j.Alg {
	case "ES256":
		t.input = func(i int) []byte { d := sha256.Sum256(SigningInput(i)); return d[:] }
	case oaep:
		t.input = func(int) []byte { return append(make([]byte, 255), 2) } // any number will do
	}

	var err error
	t.dir, err = os.MkdirTemp("", "signetd-bench-tool-")
	return t, err
}

func (t *tool) Weight() int { return 1 }

// Close removes the files.
func (t *tool) Close() error { return os.RemoveAll(t.dir) }

// Client implements [Target].
func (t *tool) Client(i int) (func() error, error) {
	in, out := filepath.Join(t.dir, fmt.Sprint(i)), filepath.Join(t.dir, fmt.Sprint(i, ".out"))
	if err := os.WriteFile(in, t.input(i), 0o600); err != nil {
		return nil, err
	}
	args := append([]string{"--module", t.job.Module, "--token-label", t.job.Token, "--login", "--pin", t.job.PIN,
		"--id", t.job.ID, "--input-file", in, "--output-file", out}, toolArgs[t.job.Alg]...)

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
