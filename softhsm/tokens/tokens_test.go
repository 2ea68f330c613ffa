//go:build linux && cgo

package tokens_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/signer/signertest"
	"signetd/softhsm/tokens"
)

// alone is set in the process that runs one test alone.
const alone = "SIGNETD_TEST_ALONE"

// runAlone runs the test that calls it in a process of its own, and reports whether this is
// that process. Modules leave things behind in a process: threads, signal dispositions,
// environment variables that they read only once.
func runAlone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(alone) != "" {
		return true
	}
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(t.Name(), "/")
	for i, p := range parts {
		parts[i] = "^" + p + "$"
	}
	cmd := exec.Command(exe, "-test.run="+strings.Join(parts, "/"), "-test.v", "-test.timeout=5m")
	if *update {
		cmd.Args = append(cmd.Args, "-update")
	}
	mark := alone + "=" + rand.Text()
	cmd.Env = append(os.Environ(), mark)
	out, err := cmd.CombinedOutput()
	for _, p := range marked(t, mark) {
		t.Errorf("%s outlives the test", p)
	}
	name := "--- SKIP: " + t.Name() + " "
	switch {
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(string(out), name):
		t.Skipf("%s", out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()+" "):
		t.Errorf("it did not run:\n%s", out)
	case testing.Verbose():
		t.Logf("%s", out)
	}
	return false
}

// marked returns the programs that have mark in their environment.
func marked(t *testing.T, mark string) (found []string) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(names) == 0 {
		t.Fatalf("no process has an environment: %v", err)
	}
	for _, name := range names {
		if env, err := os.ReadFile(name); err == nil && bytes.Contains(env, []byte(mark)) {
			program, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
			found = append(found, fmt.Sprintf("%q", program))
		}
	}
	return found
}

// kinds has the name that the suite gives to keys of each type and use.
var kinds = map[signer.Use]map[provision.KeyType]signertest.Kind{
	signer.UseSig: {
		provision.RSA2048: signertest.RSASig,
		provision.ECP256:  signertest.ECP256, provision.ECP384: signertest.ECP384, provision.ECP521: signertest.ECP521,
		provision.ECSecp256k1: signertest.Secp256k1, provision.Ed25519: signertest.Ed25519,
		provision.HMAC512: signertest.HMAC,
	},
	signer.UseEnc: {
		provision.RSA2048: signertest.RSAEnc,
		provision.ECP256:  signertest.ECDHP256, provision.ECP384: signertest.ECDHP384, provision.ECP521: signertest.ECDHP521,
		provision.AES128: signertest.AES128, provision.AES192: signertest.AES192, provision.AES256: signertest.AES256,
	},
}

// TestConformance runs the suite that every backend runs, on every token.
func TestConformance(t *testing.T) {
	for _, kit := range tokens.All() {
		t.Run(kit.Name, func(t *testing.T) {
			if !runAlone(t) {
				return
			}
			token := kit.New(t)
			refs := map[signertest.Kind]string{}
			for use, byType := range kinds {
				for _, typ := range kit.Types {
					kind, ok := byType[typ]
					agrees := use == signer.UseEnc && strings.HasPrefix(string(typ), "ec-")
					if ok && (!agrees || !kit.NoAgreement) {
						refs[kind] = token.Generate(t, string(kind), typ, use)
					}
				}
			}
			signertest.Run(t, signertest.Config{
				Open: func(t *testing.T) signer.Backend {
					t.Helper()
					b, err := pkcs11.Open(t.Context(), token.Config())
					if err != nil {
						t.Fatal(err)
					}
					return b
				},
				Refs:    refs,
				Missing: "pkcs11:object=nobody",
				Lacks:   token.Lacks(),
			})
		})
	}
}
