package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed" // for the hook and the config
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

//go:embed hook.go
var hook []byte

//go:embed config.yaml.tmpl
var config string

// A daemon is a signetd whose coverage counters can be cleared and written while it runs.
type daemon struct {
	dir  string // for its binary, token, socket and counters
	tree string // the source that it was built from

	cmd      *exec.Cmd
	stderr   bytes.Buffer
	commands *os.File       // to the hook
	reports  *bufio.Scanner // from the hook
}

// startDaemon builds the source in tree and starts it over a fresh SoftHSM2 token with
// one key to sign and one to decrypt. All files are made in dir, which must be empty.
func startDaemon(ctx context.Context, tree, dir string) (*daemon, error) {
	d := &daemon{dir: dir, tree: tree}
	bin, err := d.build(ctx)
	if err != nil {
		return nil, err
	}

	token, err := softhsm.Create(dir, "path")
	if err != nil {
		return nil, err
	}
	for label, k := range map[string]struct {
		typ provision.KeyType
		use signer.Use
	}{"oidc": {provision.ECP256, signer.UseSig}, "inbox": {provision.RSA2048, signer.UseEnc}} {
		if _, err := token.GenerateKey(label, k.typ, k.use); err != nil {
			return nil, err
		}
	}

	var text bytes.Buffer
	values := map[string]any{"Dir": dir, "Module": token.Module(), "Token": token.Label(), "PINFile": token.PINFile(), "UID": os.Getuid()}
	if err := template.Must(template.New("config").Parse(config)).Execute(&text, values); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "signetd.yaml")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return nil, err
	}

	return d, d.start(exec.Command(bin, "serve", "--config", file)) // #nosec G204 -- what was just built
}

// build builds the daemon with counters for each block of the product, and with the hook
// beside its main function. It builds a copy of the tree: go build -overlay would not need
// one, but the cover tool reads the files themselves.
func (d *daemon) build(ctx context.Context) (bin string, err error) {
	source, bin := filepath.Join(d.dir, "source"), filepath.Join(d.dir, "signetd")
	if err := copySource(source, d.tree); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(source, "cmd", "signetd", hookName), hook, 0o600); err != nil {
		return "", err
	}

	// Counters of the mode atomic are the only ones that a running process may clear.
	// Paths are trimmed so that the build cache serves the next copy, too.
	cmd := exec.CommandContext(ctx, "go", "build", "-C", source, "-cover", "-covermode=atomic", "-coverpkg=./...",
		"-tags=signetdpath", "-trimpath", "-o", bin, "./cmd/signetd") // #nosec G204 -- our own arguments
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build signetd: %w\n%s", err, out)
	}
	return bin, nil
}

// copySource copies a source tree, without what git or a build made.
func copySource(to, from string) error {
	return filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}

		switch {
		case below == ".git" || below == "build" || entry.Name() == "node_modules":
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, below), 0o750)
		case !entry.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(name) // #nosec G304 G122 -- a file of the tree
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, below), data, 0o600) // #nosec G703 -- below a folder of ours
	})
}

func (d *daemon) start(cmd *exec.Cmd) error {
	fromUs, commands, err := os.Pipe()
	if err != nil {
		return err
	}
	reports, toUs, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Env = append(os.Environ(), "GOCOVERDIR="+d.dir)
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // 3 and 4
	cmd.Stderr = &d.stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	_, _ = fromUs.Close(), toUs.Close()
	d.cmd, d.commands, d.reports = cmd, commands, bufio.NewScanner(reports)

	for range 300 {
		c, err := net.Dial("unix", d.socket())
		if err == nil {
			return c.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.Join(fmt.Errorf("signetd does not answer"), d.stop())
}

// stop ends the daemon. An error has its log.
func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("signetd: %w\n%s", err, d.stderr.String())
	}
	return nil
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "s.sock") }

// command has the hook do something, and returns when the hook has done it.
func (d *daemon) command(words ...string) error {
	if _, err := fmt.Fprintln(d.commands, strings.Join(words, " ")); err != nil {
		return err
	}
	if !d.reports.Scan() {
		return fmt.Errorf("the daemon is gone: %w", d.stop())
	}
	if report := d.reports.Text(); report != "<nil>" {
		return errors.New(report)
	}
	return nil
}

// newClient returns a client with connections of its own.
func (d *daemon) newClient() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", d.socket())
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: time.Minute}
}

// send sends a request and returns the answer, which must be 200.
func send(c *http.Client, path, body string) ([]byte, error) {
	resp, err := c.Post("http://signetd"+path, "application/json", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", path, resp.StatusCode, answer)
	}
	return answer, err
}
