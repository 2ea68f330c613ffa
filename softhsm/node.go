package softhsm

import (
	"os"
	"path/filepath"
	"testing"
)

// NodeModules returns the node_modules folder with the packages of npm that the tests need.
// `sh deploy/packaging/install-deps.sh node-packages` installs them. Without them the test
// is skipped, or fails if REQUIRE_TOOLS is 1.
func NodeModules(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache")
	}

	dir := filepath.Join(cache, "signetd", "node", "node_modules")
	if _, err := os.Stat(filepath.Join(dir, "jose")); err != nil { // #nosec G703 -- this user's own environment
		const hint = "sh deploy/packaging/install-deps.sh node-packages installs them"
		if os.Getenv("REQUIRE_TOOLS") == "1" {
			t.Fatalf("packages from npm: %v: %s", err, hint)
		}
		t.Skipf("packages from npm: %v: %s", err, hint)
	}
	return dir
}
