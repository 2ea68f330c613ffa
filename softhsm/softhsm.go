// Package softhsm gives tests and demonstrations a fresh SoftHSM2 token.
//
// In a test:
//
//	token := softhsm.New(t)
//	ref := token.Generate(t, "oidc", provision.ECP256, signer.UseSig)
//	backend, err := pkcs11.Open(t.Context(), token.Config())
//
// Tokens and keys are made by another process, since a PKCS#11 module is
// initialised once per process and belongs to the backend under test.
//
// SoftHSM2 reads its environment when it is initialised. So a process can use
// the tokens of one [Token] at a time: close all backends of the one before.
package softhsm

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
)

// ErrMissing means that SoftHSM2 is not installed.
var ErrMissing = errors.New("softhsm2 is not installed: install the package softhsm2, or point SOFTHSM2_MODULE at libsofthsm2.so")

// paths is where Debian, Fedora, Alpine, and Homebrew put the module.
var paths = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib/pkcs11/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
}

// Module returns the path of the SoftHSM2 library: what the environment
// variable SOFTHSM2_MODULE says, or the first of the usual places where it is.
func Module() (string, error) {
	if path := os.Getenv("SOFTHSM2_MODULE"); path != "" {
		return path, nil
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", ErrMissing
}

// A Token is a SoftHSM2 token in a directory of its own.
type Token struct {
	dir, module, label, pin string
}

// New makes a token under t.TempDir and sets SOFTHSM2_CONF for the rest of the
// test. Without SoftHSM2 it skips the test, or fails it if REQUIRE_SOFTHSM is 1.
func New(t testing.TB) *Token {
	t.Helper()
	if _, err := Module(); err != nil {
		if os.Getenv("REQUIRE_SOFTHSM") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	// Setenv before Create, so that the test's cleanup undoes it.
	t.Setenv("SOFTHSM2_CONF", os.Getenv("SOFTHSM2_CONF"))
	token, err := Create(t.TempDir(), "signetd-test")
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Create makes a token with a random PIN in dir, which must be empty, and sets
// SOFTHSM2_CONF in the environment of this process.
func Create(dir, label string) (*Token, error) {
	module, err := Module()
	if err != nil {
		return nil, err
	}
	t := &Token{dir: dir, module: module, label: label, pin: rand.Text()[:12]}
	if err := os.Mkdir(t.path("tokens"), 0o700); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", t.path("tokens"))
	for name, content := range map[string]string{"softhsm2.conf": conf, "pin": t.pin + "\n", "so-pin": rand.Text()[:12] + "\n"} {
		if err := os.WriteFile(t.path(name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.Setenv("SOFTHSM2_CONF", t.Conf()); err != nil {
		return nil, err
	}
	if _, err := t.AddToken(label); err != nil {
		return nil, err
	}
	return t, nil
}

// AddToken makes another token with the same PINs beside t. It returns its
// serial number.
func (t *Token) AddToken(label string) (serial string, err error) {
	return t.hsm("init", "--token", label, "--so-pin-file", t.path("so-pin"))
}

// GenerateKey makes a key in the token and returns its URI.
func (t *Token) GenerateKey(label string, typ provision.KeyType, use signer.Use) (uri string, err error) {
	out, err := t.hsm("keygen", "--token", t.label, "--label", label, "--type", string(typ), "--use", string(use))
	uri, _, _ = strings.Cut(out, "\n") // the public key follows
	return uri, err
}

// Generate is GenerateKey in a test.
func (t *Token) Generate(tb testing.TB, label string, typ provision.KeyType, use signer.Use) (uri string) {
	tb.Helper()
	uri, err := t.GenerateKey(label, typ, use)
	if err != nil {
		tb.Fatal(err)
	}
	return uri
}

// Config returns what pkcs11.Open needs.
func (t *Token) Config() pkcs11.Config {
	return pkcs11.Config{Module: t.module, Token: t.label, PINFile: t.PINFile()}
}

// Module returns the path of the SoftHSM2 library.
func (t *Token) Module() string { return t.module }

// Label returns the label of the token.
func (t *Token) Label() string { return t.label }

// Conf returns the path of softhsm2.conf, to be put in SOFTHSM2_CONF.
func (t *Token) Conf() string { return t.path("softhsm2.conf") }

// PINFile returns the path of the file with the user PIN.
func (t *Token) PINFile() string { return t.path("pin") }

// PIN returns the user PIN, for tests that look for it where it must not be.
func (t *Token) PIN() string { return t.pin }

func (t *Token) path(name string) string { return filepath.Join(t.dir, name) }

// hsm runs `signetd hsm` on the token.
func (t *Token) hsm(command string, args ...string) (string, error) {
	bin, err := Signetd()
	if err != nil {
		return "", err
	}
	args = append([]string{"hsm", command, "--module", t.module, "--pin-file", t.PINFile()}, args...)
	cmd := exec.Command(bin, args...) // #nosec G204 -- our own program
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+t.Conf())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("hsm %s: %w: %s", command, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
