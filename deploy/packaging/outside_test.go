package packaging

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestOutsideModule makes a module that imports this one, once by replace and once by a
// workspace, and runs the README's tests there, with the client, daemontest and softhsm.
func TestOutsideModule(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)<!-- test: go -->\n```go\n(.*?)```").FindStringSubmatch(string(readme))
	if example == nil {
		t.Fatal("the README has no test for other modules")
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(mustRun(t, root, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}"))
	module, source := lines[0], lines[1]

	const (
		gomod   = "module example.com/issuer\n\ngo 1.26.0\n"
		signetd = `package issuer

import (
	"os/exec"
	"strings"
	"testing"

	"signetd/softhsm"
)

func TestSignetd(t *testing.T) {
	bin, err := softhsm.Signetd()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "signetd ") {
		t.Fatalf("%v: %s", err, out)
	}
}
`
	)
	for name, files := range map[string]map[string]string{
		"replace":   {"issuer/go.mod": gomod + "\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + source + "\n"},
		"workspace": {"issuer/go.mod": gomod, "go.work": "go 1.26.0\n\nuse (\n\t./issuer\n\t" + source + "\n)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files["issuer/issuer_test.go"] = example[1]
			files["issuer/signetd_test.go"] = signetd
			files["issuer/go.sum"] = string(sums)
			for file, text := range files {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}

			// In a workspace the requirements of all its modules count. Without one,
			// -mod=mod adds them to go.mod, as `go mod tidy` would with a network.
			args := []string{"test", "-count", "1", "-v", "./..."}
			if name == "replace" {
				args = append(args, "-mod=mod")
			}
			out := mustRun(t, filepath.Join(dir, "issuer"), "go", args...)
			for _, test := range []string{"TestIssuer", "TestToken", "TestSignetd"} {
				if !strings.Contains(out, "--- PASS: "+test) && (!strings.Contains(out, "--- SKIP: "+test) || os.Getenv("REQUIRE_SOFTHSM") == "1") {
					t.Errorf("%s did not pass:\n%s", test, out)
				}
			}
		})
	}
}
