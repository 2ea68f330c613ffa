package faultp11

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the module's source
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

//go:embed module/faultp11.c
var source []byte

// build compiles the module, once for each version of its source, and returns its path.
var build = sync.OnceValues(func() (path string, err error) {
	return Build("faultp11", func(dir string) (string, error) {
		sum := sha256.Sum256(source)
		path := filepath.Join(dir, fmt.Sprintf("faultp11-%x.so", sum[:6]))
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		return path, compile(path)
	})
})

// Build runs make, which builds something for tests in the folder dir and returns its path.
// If several processes build what has the same name, they wait for each other. The folder
// is build/test in this repository, and a cache folder of the user in other modules.
func Build(name string, make func(dir string) (path string, err error)) (path string, err error) {
	dir, err := buildDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}

	lock, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- in our own folder
	if err != nil {
		return "", err
	}
	defer lock.Close() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}

	return make(dir)
}

func compile(path string) error {
	file := filepath.Join(filepath.Dir(path), "faultp11.c")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		return err
	}

	compiler := strings.Fields(os.Getenv("CC"))
	if len(compiler) == 0 {
		compiler = []string{"cc"}
	}
	args := append(compiler[1:], "-shared", "-fPIC", "-O2", "-o", path+".new", file, "-ldl", "-pthread")
	if out, err := exec.Command(compiler[0], args...).CombinedOutput(); err != nil { // #nosec G204 G702 -- the C compiler that cgo would use
		return fmt.Errorf("%s: %w: %s", compiler[0], err, bytes.TrimSpace(out))
	}
	return os.Rename(path+".new", path) // in one step, so that no process loads half of it
}

// buildDir returns build/test in this repository, and a cache folder elsewhere.
func buildDir() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w: these tests need the go command", err)
	}

	// By a file of ours and not by the module's name, which `make module-path` changes.
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if _, err := os.Stat(filepath.Join(root, "softhsm", "faultp11", "build.go")); err == nil {
		return filepath.Join(root, "build", "test"), nil
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "signetd"), err
}
