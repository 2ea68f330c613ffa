// Package packaging holds what others need of this module: its name, its packages, and
// what its tests need installed. It has tests alone.
package packaging

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// TestModulePath renames the module in a copy of the tree.
func TestModulePath(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the whole tree anew")
	}
	dir := copyTree(t)
	old := strings.TrimSpace(mustRun(t, dir, "go", "list", "-m"))

	for _, bad := range []string{
		"", "signetd", "x", "../x", "/abs/x", "https://a.com/x", "a.com/", "a.com//b", "a.com/x y", "a.com/x;y", "a.com/x\na.com/y",
		"a.com/.x", "a.com/x.", "a..com/x", "A.com/x", "-a.com/x", "a.com/x&y", "a.com/x#y", "a.com/internal/x",
	} {
		if out, err := run(dir, "sh", "deploy/packaging/module-path.sh", bad); err == nil {
			t.Errorf("the path %q was taken", bad)
		} else if !strings.Contains(out, "MODULE=host/owner/signetd") {
			t.Errorf("the path %q: %s", bad, out)
		}
	}
	if got := strings.TrimSpace(mustRun(t, dir, "go", "list", "-m")); got != old {
		t.Fatalf("a refused path renamed the module to %s", got)
	}

	// The first path has characters that mean something to sed and grep.
	for _, path := range []string{"git.ex-ample.com/some.one/signetd", "example.org/signetd"} {
		mustRun(t, dir, "make", "module-path", "MODULE="+path)
		if got := strings.TrimSpace(mustRun(t, dir, "go", "list", "-m")); got != path {
			t.Fatalf("the module is %s, want %s", got, path)
		}
		wantNoTrace(t, dir, old)
		old = path
	}

	before := contents(t, dir)
	mustRun(t, dir, "make", "module-path", "MODULE="+old)
	for name, text := range contents(t, dir) {
		if before[name] != text {
			t.Errorf("a second run changed %s", name)
		}
	}

	if out := mustRun(t, dir, "gofmt", "-l", "."); out != "" {
		t.Errorf("not formatted: %s", out)
	}
	mustRun(t, dir, "go", "build", "./...")
	mustRun(t, dir, "go", "vet", "./signer", "./daemon/client", "./softhsm")
	mustRun(t, dir, "go", "test", "-run", "TestDependencies", "./signer")
	if _, err := run(filepath.Join(dir, "deploy/examples/go"), "go", "mod", "download"); err == nil { // golang-jwt may not be in the module cache
		mustRun(t, filepath.Join(dir, "deploy/examples/go"), "go", "vet", "./...")
	}
}

// wantNoTrace looks for a package by its old path.
func wantNoTrace(t *testing.T, dir, old string) {
	t.Helper()
	trace := regexp.MustCompile(`["(` + "`" + `\[ ]` + regexp.QuoteMeta(old) + `/(backends|cmd|daemon|deploy|signer|softhsm)\b`)
	for name, text := range contents(t, dir) {
		if found := trace.FindString(text); found != "" && !strings.HasPrefix(name, "deploy/packaging/module") {
			t.Errorf("%s has %s", name, found)
		}
	}
}

// copyTree copies the files that git knows, as they are now, without git's own.
func copyTree(t *testing.T) (dir string) {
	t.Helper()
	out, err := run(root, "git", "ls-files", "-co", "--exclude-standard")
	if err != nil {
		t.Skipf("no git, so the files of the tree are not known: %s", out)
	}

	dir = t.TempDir()
	for name := range strings.Lines(out) {
		name = strings.TrimSpace(name)
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		data, err := os.ReadFile(from)
		if os.IsNotExist(err) {
			continue // removed, but not yet from the index
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contents returns all files under dir by their paths.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// run runs a command in dir with no network: what it needs is in the module cache.
func run(dir, name string, args ...string) (out string, err error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOSUMDB=off", "GOFLAGS=")
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	err = cmd.Run()
	return both.String(), err
}

func mustRun(t *testing.T, dir, name string, args ...string) (out string) {
	t.Helper()
	out, err := run(dir, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}
