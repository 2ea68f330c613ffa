package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"signetd/softhsm"
)

// most is how many files of the product one jwt/sign may run through. Code that moves to
// a file of its own must not make the way of a request longer.
const most = 36

// TestPath measures the way of a request.
func TestPath(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the daemon with counters")
	}
	softhsm.New(t) // skips the test without SoftHSM2, and restores the environment at the end

	chosen := slices.DeleteFunc(journeys(), func(j journey) bool { return j.name != "jwt/sign" && j.name != "reload" })
	results, err := measureAll(context.Background(), "../..", chosen)
	if err != nil {
		t.Fatal(err)
	}
	files := results["jwt/sign"]
	var text bytes.Buffer
	printFiles(&text, "jwt/sign", files)
	if len(files) > most {
		t.Errorf("a request runs through %d files, want %d or fewer:\n%s", len(files), most, text.String())
	}

	// docs/request.md leads a reader through these files, as they are on Linux.
	page, err := os.ReadFile("../../docs/request.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if runtime.GOOS == "linux" && !strings.Contains(string(page), "](../"+f.name+")") {
			t.Errorf("docs/request.md lacks %s, which a jwt/sign runs through", f.name)
		}
	}

	// A measurement that misses code would pass.
	for _, want := range []string{"jwt/sign: ", "backends/pkcs11\n", "daemon/audit\n", "daemon/policy\n", "signer\n", "Policy.Check", "Log.Append"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the way of a request lacks %q:\n%s", want, text.String())
		}
	}
	if reload := results["reload"]; len(reload) <= len(files) || !strings.HasPrefix(reload[len(reload)-1].name, "signer/") {
		t.Errorf("a reload runs through %d files: %v", len(reload), reload)
	}
}

// TestFilesOf names the functions that blocks are in.
func TestFilesOf(t *testing.T) {
	tree := t.TempDir()
	const source = `package a

type list[T any] struct{}

func (l *list[T]) add(f func()) {
	f()
}

var hook = func() {}

func idle() {}

func run() {
	func() {
		hook()
	}()
}
`
	const profile = `mode: atomic
example.com/m/a/a.go:5.33,7.2 1 3
example.com/m/a/a.go:9.19,9.20 0 1
example.com/m/a/a.go:11.14,11.15 0 0
example.com/m/a/a.go:14.9,16.3 1 1
example.com/m/cmd/signetd/path_hook.go:1.1,2.2 1 1
`
	if err := os.Mkdir(filepath.Join(tree, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a/a.go": source, "profile": profile} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	blocks, err := readProfile(filepath.Join(tree, "profile"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filesOf(blocks, tree, "example.com/m")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	printFiles(&out, "x", files)
	const want = "x: 1 files, 3 functions\n\na\n  a.go                     list.add, (a variable's function), run\n"
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}
