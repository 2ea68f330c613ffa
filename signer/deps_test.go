package signer_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	joseModule = "github.com/go-jose/go-jose/v4"
	jsonModule = "github.com/go-json-experiment/json"
	k1Module   = "github.com/decred/dcrd/dcrec/secp256k1/v4"
	daemontest = "signetd/daemon/daemontest"
)

// TestDependencies holds which way dependencies point: cmd to daemon and
// backends, these to signer, and clients only to signer and the API.
func TestDependencies(t *testing.T) {
	noteSources(t)
	tests := []struct {
		pattern string
		except  string // a package that the pattern names and that has its own rule
		why     string
		allow   []string // the modules and packages outside the standard library; nil is any
		deny    []string
		cgo     bool
	}{
		{
			pattern: "signetd/signer", why: "everything imports it and inherits what it imports",
			allow: []string{"signetd/signer", joseModule, k1Module},
		},
		{
			pattern: "signetd/daemon/client", why: "issuers link it",
			allow: []string{"signetd/signer", "signetd/daemon/api", "signetd/daemon/client", joseModule, jsonModule, k1Module},
		},
		{
			pattern: "signetd/cmd/signet", why: "it runs where neither a module nor a C library is",
			allow: []string{"signetd/signer", "signetd/daemon/api", "signetd/daemon/client", "signetd/cmd/signet", joseModule, jsonModule, k1Module, "github.com/spf13/cobra", "github.com/spf13/pflag"},
		},
		{
			pattern: "signetd/daemon/...", except: daemontest, why: "cmd wires the backends in",
			deny: []string{"signetd/backends", "signetd/cmd", "signetd/softhsm"}, cgo: true,
		},
		{
			pattern: daemontest, why: "it is for tests, and its daemon has the software keys that need nothing installed",
			deny: []string{"signetd/backends/pkcs11", "signetd/cmd", "signetd/softhsm"},
		},
		{
			pattern: "signetd/cmd/...", why: "what is installed holds no test kit",
			deny: []string{daemontest, "signetd/softhsm", "signetd/signer/signertest", "signetd/backends/awskms/awskmstest", "signetd/backends/gcpkms/gcpkmstest"}, cgo: true,
		},
		{
			pattern: "signetd/backends/...", why: "a backend knows refs and no requests",
			deny: []string{"signetd/daemon", "signetd/cmd", "signetd/softhsm"}, cgo: true,
		},
	}

	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			deps := list(t, tt.pattern, tt.except)
			if len(deps) == 0 {
				t.Fatalf("go list -deps %s lists nothing", tt.pattern)
			}
			for pkg, cgo := range deps {
				if tt.allow != nil && !under(tt.allow, pkg) || under(tt.deny, pkg) {
					t.Errorf("%s depends on %s: %s", tt.pattern, pkg, tt.why)
				}
				if cgo && !tt.cgo {
					t.Errorf("%s depends on %s, which uses cgo: %s", tt.pattern, pkg, tt.why)
				}
			}
		})
	}
}

// TestPureGo builds the command line for hosts without a C compiler.
func TestPureGo(t *testing.T) {
	noteSources(t)
	run(t, "CGO_ENABLED=0", "build", "-o", os.DevNull, "signetd/cmd/signet")
}

// under reports whether pkg is one of the listed packages or below one.
func under(paths []string, pkg string) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return pkg == p || strings.HasPrefix(pkg, p+"/") })
}

// list returns what the packages of pattern, all but one, depend on outside the
// standard library when cgo is on, and whether each uses it.
func list(t *testing.T, pattern, except string) map[string]bool {
	t.Helper()
	pkgs := strings.Fields(run(t, "CGO_ENABLED=1", "list", pattern))
	pkgs = slices.DeleteFunc(pkgs, func(pkg string) bool { return pkg == except })
	if len(pkgs) == 0 {
		t.Fatalf("go list %s lists nothing", pattern)
	}
	args := []string{"list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}} {{len .CgoFiles}}{{end}}"}
	out := run(t, "CGO_ENABLED=1", append(args, pkgs...)...)
	deps := map[string]bool{}
	for line := range strings.Lines(out) {
		pkg, files, _ := strings.Cut(strings.TrimSpace(line), " ")
		deps[pkg] = files != "0"
	}
	return deps
}

func run(t *testing.T, env string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// noteSources looks at every Go file of the module: go test then knows that the
// result depends on them, and does not repeat an old one.
func noteSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
