package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"signetd/daemon/client"
	"signetd/softhsm"
)

//go:embed config.yaml.tmpl
var configTemplate string

// otherUID is the user nobody.
const otherUID = 65534

// A world is a token, a daemon over it, and a client of the daemon.
type world struct {
	*story
	dir      string
	template string                // of the config
	values   func() map[string]any // for it
	env      []string              // of the daemon, in addition to that of this process
	token    *softhsm.Token
	refs     map[string]string // the ref of each key
	daemon   *exec.Cmd
	log      bytes.Buffer
	client   *client.Client
	jwt      string // a signed token
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }
func (w *world) socket() string          { return w.path("signetd.sock") }

// build builds the two programs.
func (w *world) build(ctx context.Context) error {
	w.chapter("Build signetd and signet")
	for _, name := range []string{"signetd", "signet"} {
		cgo := "CGO_ENABLED=1"
		if name == "signet" {
			cgo = "CGO_ENABLED=0"
		}
		if _, err := command(ctx, []string{cgo}, "go", "build", "-o", w.path(name), "signetd/cmd/"+name); err != nil {
			return err
		}
	}
	w.did("signetd links the PKCS#11 backend; signet, the client, is pure Go")
	return nil
}

// A keygen says which key to make in the token.
type keygen struct{ name, typ, use string }

// provision makes a token and keys in it, as an operator would.
func (w *world) provision(ctx context.Context, keys ...keygen) (err error) {
	w.chapter(fmt.Sprintf("Make a throw-away SoftHSM2 token and %d keys in it", len(keys)))
	if err := os.Mkdir(w.path("token"), 0o700); err != nil {
		return err
	}
	if w.token, err = softhsm.Create(w.path("token"), "issuer"); err != nil {
		return err
	}
	w.did("token %q in %s", w.token.Label(), w.path("token"))

	w.refs = map[string]string{}
	for _, k := range keys {
		out, err := command(ctx, nil, w.path("signetd"), "hsm", "keygen", "--module", w.token.Module(), "--token", w.token.Label(),
			"--pin-file", w.token.PINFile(), "--label", k.name, "--type", k.typ, "--use", k.use)
		if err != nil {
			return err
		}
		w.refs[k.name], _, _ = strings.Cut(out, "\n")
		w.did("signetd hsm keygen: %-8s  %s for %s; sensitive, not extractable", k.name, k.typ, map[string]string{"sig": "signing only", "enc": "decryption only"}[k.use])
	}
	return nil
}

// start writes the config, checks it with signetd check, and starts the daemon.
func (w *world) start(ctx context.Context) error {
	w.chapter("Start signetd on a Unix socket")
	path, err := w.writeConfig()
	if err != nil {
		return err
	}
	if _, err := command(ctx, w.env, w.path("signetd"), "check", "--config", path); err != nil {
		return err
	}
	w.did("signetd check: every key opened, used once and verified")

	w.daemon = exec.CommandContext(ctx, w.path("signetd"), "serve", "--config", path) // #nosec G204 -- what was just built
	w.daemon.Env = append(os.Environ(), w.env...)
	w.daemon.Stderr = &w.log
	w.daemon.Cancel = func() error { return w.daemon.Process.Signal(syscall.SIGTERM) }
	w.daemon.WaitDelay = 30 * time.Second
	if err := w.daemon.Start(); err != nil {
		return err
	}

	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(w.socket()); err == nil {
			break
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return errors.Join(errors.New("signetd did not come up"), w.stop())
		}
	}
	w.did("signetd serve: pid %d answers on %s", w.daemon.Process.Pid, w.socket())
	return nil
}

// writeConfig writes the config file and returns its path.
func (w *world) writeConfig() (string, error) {
	var config bytes.Buffer
	if err := template.Must(template.New("").Parse(w.template)).Execute(&config, w.values()); err != nil {
		return "", err
	}
	path := w.path("signetd.yaml")
	return path, os.WriteFile(path, config.Bytes(), 0o600)
}

// tokenValues returns the values of the config template for the token and the peers.
func (w *world) tokenValues() map[string]any {
	return map[string]any{
		"Dir": w.dir, "Module": w.token.Module(), "Token": w.token.Label(), "PINFile": w.token.PINFile(), "Refs": w.refs, "UID": os.Getuid(), "Other": otherUID,
	}
}

// stop ends the daemon, which must exit with 0 and remove its socket.
func (w *world) stop() error {
	if err := w.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("signetd ended by itself: %w\n%s", err, w.log.String())
	}
	if err := w.daemon.Wait(); err != nil {
		return fmt.Errorf("signetd: %w\n%s", err, w.log.String())
	}
	if _, err := os.Stat(w.socket()); err == nil {
		return errors.New("signetd left its socket behind")
	}
	return nil
}

// command runs a program and returns its standard output. An error has the standard error.
func command(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) // #nosec G204 -- the demo's own programs, go and openssl
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
