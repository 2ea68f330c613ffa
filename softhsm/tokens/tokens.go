//go:build linux && cgo

package tokens

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
)

// A Token is a software token that runs until the test ends.
type Token struct {
	module, label, pin, pinFile string
	initArgs                    string // pReserved of C_Initialize, for NSS
	lacks                       []signer.Alg

	generate func(label string, typ provision.KeyType, use signer.Use) error
	cut      func() error // nil if there is no connection to break
}

// A Kit makes a Token of one kind.
type Kit struct {
	Name string
	New  func(testing.TB) *Token
	// Types are the types of key that the token can make. RSA-2048 is one of them.
	Types []provision.KeyType
	// NoAgreement says that its EC keys sign and do nothing else.
	NoAgreement bool
}

// All returns the kits of all tokens.
func All() []Kit {
	rsa := []provision.KeyType{provision.RSA2048}
	nist := []provision.KeyType{provision.ECP256, provision.ECP384, provision.ECP521}
	secrets := []provision.KeyType{provision.HMAC512, provision.AES128, provision.AES192, provision.AES256}
	others := []provision.KeyType{provision.Ed25519, provision.ECSecp256k1}
	return []Kit{
		{Name: "softhsm2", New: NewSoftHSM2, Types: slices.Concat(rsa, nist, secrets, others)},
		{Name: "nss", New: NewNSS, Types: slices.Concat(rsa, nist, secrets)},
		{Name: "opencryptoki", New: NewOpencryptoki, Types: slices.Concat(rsa, secrets)},
		{Name: "tpm", New: NewTPM, Types: slices.Concat(rsa, nist[:2]), NoAgreement: true},
		{Name: "p11kit", New: NewP11Kit, Types: slices.Concat(rsa, nist, secrets, others[1:]), NoAgreement: true},
	}
}

// Module returns the path of the PKCS#11 library.
func (t *Token) Module() string { return t.module }

// PIN returns the user PIN.
func (t *Token) PIN() string { return t.pin }

// PINFile returns the path of the file with the user PIN.
func (t *Token) PINFile() string { return t.pinFile }

// Lacks returns the algorithms that fit keys of the token and that the token cannot do, in
// any of the ways that package pkcs11 tries.
func (t *Token) Lacks() []signer.Alg { return t.lacks }

// Config returns what pkcs11.Open needs.
func (t *Token) Config() pkcs11.Config {
	return pkcs11.Config{Module: t.module, Token: t.label, PINFile: t.pinFile, InitArgs: t.initArgs}
}

// Generate makes a key and returns its URI. It does so in another process, except for
// [NewNSS].
func (t *Token) Generate(tb testing.TB, label string, typ provision.KeyType, use signer.Use) (uri string) {
	tb.Helper()
	if err := t.generate(label, typ, use); err != nil {
		tb.Fatalf("generate %s: %v", typ, err)
	}
	u := pkcs11.URI{Token: t.label, Object: label}
	return u.String()
}

// Cut breaks the connection between module and token, as if the cable had been pulled. It
// fails the test if the token has no connection.
func (t *Token) Cut(tb testing.TB) {
	tb.Helper()
	if t.cut == nil {
		tb.Fatalf("token %q has no connection to break", t.label)
	}
	if err := t.cut(); err != nil {
		tb.Fatal(err)
	}
}

// noGCM are the algorithms that a token without CKM_AES_GCM lacks.
var noGCM = []signer.Alg{signer.A128GCMKW, signer.A192GCMKW, signer.A256GCMKW, signer.Dir}

// newToken returns a Token with a random PIN of eight digits, which every token accepts,
// and writes the PIN file.
func newToken(tb testing.TB, module, label string) *Token {
	tb.Helper()
	t := &Token{module: module, label: label, pin: randomPIN(), pinFile: filepath.Join(tb.TempDir(), "pin")}
	if err := os.WriteFile(t.pinFile, []byte(t.pin+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return t
}

func randomPIN() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails (Go 1.24)
	for i := range b {
		b[i] = '0' + b[i]%10
	}
	return string(b)
}

// need returns the path of each of the given programs and libraries. A name is a list of
// programs to look up or patterns of paths, of which the first match counts. If one is
// missing, need ends the test.
func need(tb testing.TB, token string, names ...[]string) []string {
	tb.Helper()
	found := make([]string, len(names))
	for i, patterns := range names {
		for _, p := range patterns {
			if path, err := exec.LookPath(p); err == nil {
				found[i] = path
			} else if matches, err := filepath.Glob(p); err == nil && len(matches) > 0 {
				found[i] = matches[0]
			}
			if found[i] != "" {
				break
			}
		}

		if found[i] == "" {
			missing(tb, fmt.Sprintf("the token %s needs %s: run deploy/packaging/install-deps.sh tokens", token, filepath.Base(patterns[0])))
		}
	}
	return found
}

// missing skips the test, or fails it if REQUIRE_TOKENS is 1.
func missing(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv("REQUIRE_TOKENS") == "1" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}

// library returns patterns of the path of a library, for [need]: Debian's folder, then
// Fedora's.
func library(name string) []string {
	return []string{"/usr/lib/*-linux-gnu/" + name, "/usr/lib64/" + name, "/usr/lib/" + name}
}

// program returns the names of a program that may not be on a user's PATH, for [need].
func program(name string) []string { return []string{name, "/usr/sbin/" + name} }
