// Command path shows which code a request runs through: it sends one to a real daemon over
// a SoftHSM2 token, and prints the files and functions of the product that ran meanwhile,
// by package. `make path` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	name := flag.String("journey", "jwt/sign", "the request: jwt/sign, jwe/decrypt, jwt/seal, batch or reload; all prints a table of all")
	tree := flag.String("tree", ".", "folder of the source to measure")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *tree, *name); err != nil {
		fmt.Fprintln(os.Stderr, "path:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, tree, name string) error {
	chosen := journeys()
	if name != "all" {
		chosen = slices.DeleteFunc(chosen, func(j journey) bool { return j.name != name })
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no journey %q", name)
	}

	results, err := measureAll(ctx, tree, chosen)
	if err != nil {
		return err
	}
	if name == "all" {
		printTable(out, chosen, results)
		return nil
	}
	printFiles(out, name, results[name])
	return nil
}

// measureAll starts a daemon from the source in tree and returns the files of each journey.
func measureAll(ctx context.Context, tree string, chosen []journey) (results map[string][]file, err error) {
	if tree, err = filepath.Abs(tree); err != nil {
		return nil, err
	}
	list := exec.CommandContext(ctx, "go", "list", "-m")
	list.Dir, list.Env = tree, append(os.Environ(), "GOWORK=off")
	module, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	dir, err := os.MkdirTemp("", "path") // short, as the path of a socket must be
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	d, err := startDaemon(ctx, tree, dir)
	if err != nil {
		return nil, err
	}
	results = map[string][]file{}
	for _, j := range chosen {
		blocks, err := d.measure(ctx, j)
		if err == nil {
			results[j.name], err = filesOf(blocks, tree, strings.TrimSpace(string(module)))
		}
		if err != nil {
			_ = d.stop()
			return nil, err
		}
	}
	return results, d.stop()
}

// count returns the number of functions in files.
func count(files []file) (functions int) {
	for _, f := range files {
		functions += len(f.functions)
	}
	return functions
}

// printFiles prints files by package.
func printFiles(out io.Writer, name string, files []file) {
	fmt.Fprintf(out, "%s: %d files, %d functions\n", name, len(files), count(files))
	pkg := ""
	for _, f := range files {
		if p := path.Dir(f.name); p != pkg {
			pkg = p
			fmt.Fprintf(out, "\n%s\n", pkg)
		}
		fmt.Fprintf(out, "  %-24s %s\n", path.Base(f.name), strings.Join(f.functions, ", "))
	}
}

// printTable prints a line for each journey.
func printTable(out io.Writer, chosen []journey, results map[string][]file) {
	fmt.Fprintf(out, "%-12s %8s %10s %10s\n", "request", "packages", "files", "functions")
	for _, j := range chosen {
		packages := map[string]bool{}
		for _, f := range results[j.name] {
			packages[path.Dir(f.name)] = true
		}
		fmt.Fprintf(out, "%-12s %8d %10d %10d\n", j.name, len(packages), len(results[j.name]), count(results[j.name]))
	}
}
