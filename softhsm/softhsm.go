// Package softhsm gives tests and demonstrations a fresh SoftHSM2 token.
//
// In a test:
//
//	token := softhsm.New(t)
//	ref := token.Generate(t, "oidc", provision.ECP256, signer.UseSig)
//	backend, err := pkcs11.Open(t.Context(), token.Config())
//
// A process initialises a PKCS#11 module once, and in a test the module belongs to the
// backend under test. So a second process makes tokens and keys: this package starts the
// test's own program again, and its init function does the work there and exits. That
// takes SoftHSM2 and neither the go command nor a signetd.
//
// SoftHSM2 reads its environment when a process initialises it. So a process can use
// the tokens of one [Token] at a time: close all backends on it before the next [New].
package softhsm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
)

// ErrMissing means that SoftHSM2 is not installed.
var ErrMissing = errors.New("softhsm2 is not installed: install the package softhsm2, or point SOFTHSM2_MODULE at libsofthsm2.so")

// paths are where Debian, Fedora, Alpine and Homebrew put the module.
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

// Module returns the path of the SoftHSM2 library: the value of the environment
// variable SOFTHSM2_MODULE, or else the first path that exists of those that
// distributions use. It returns [ErrMissing] if there is none.
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

// New makes a token under t.TempDir and sets SOFTHSM2_CONF for the rest of the test, so
// the test cannot be parallel. Without SoftHSM2 it skips the test, or fails the test if
// REQUIRE_SOFTHSM is 1.
func New(t testing.TB) *Token {
	t.Helper()
	if _, err := Module(); err != nil {
		if os.Getenv("REQUIRE_SOFTHSM") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}

	// Create sets the variable too. Setenv comes first, so that the test's cleanup
	// restores the value of before.
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

// AddToken makes another token beside t, with the PINs of t, and returns its serial
// number. SoftHSM2 serves both through one module.
func (t *Token) AddToken(label string) (serial string, err error) {
	r := request{Init: &provision.InitOptions{Module: t.module, Label: label}, PINFile: t.PINFile(), SOPINFile: t.path("so-pin")}
	return r.run(t.Conf())
}

// GenerateKey makes a key in the token and returns its URI (RFC 7512), the ref for a
// config file.
func (t *Token) GenerateKey(label string, typ provision.KeyType, use signer.Use) (uri string, err error) {
	r := request{Key: &provision.KeyOptions{Module: t.module, Token: t.label, Label: label, Type: typ, Use: use}, PINFile: t.PINFile()}
	return r.run(t.Conf())
}

// Generate is GenerateKey for a test, which it fails on an error.
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
