//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// A world is a token, its keys, and the daemons that serve them.
type world struct {
	dir     string
	token   *softhsm.Token
	ids     map[string]string // CKA_ID in hexadecimal digits, by label
	daemons [daemons]running
	server  *exec.Cmd // p11-kit's
	stop    context.CancelFunc
	ctx     context.Context //nolint:containedctx // the life of the processes, which all end with it
}

// A running is a signetd that runs.
type running struct {
	cmd    *exec.Cmd
	socket string
}

//go:embed config.yaml.tmpl
var configText string

var configTemplate = template.Must(template.New("config").Parse(configText))

func newWorld(ctx context.Context) (*world, error) {
	w := &world{ids: map[string]string{}}
	w.ctx, w.stop = context.WithCancel(ctx)
	if err := w.build(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// build makes the token and its keys and starts the daemons.
func (w *world) build() (err error) {
	if w.dir, err = os.MkdirTemp("", "signetd-bench-"); err != nil {
		return err
	}
	token := filepath.Join(w.dir, "token")
	if err := os.Mkdir(token, 0o700); err != nil {
		return err
	}
	if w.token, err = softhsm.Create(token, "bench"); err != nil {
		return err
	}
	types := map[string]provision.KeyType{
		"ES256": provision.ECP256, "RS256": provision.RSA2048, "PS256": provision.RSA2048, "EdDSA": provision.Ed25519, "RSA-OAEP-256": provision.RSA2048,
	}
	for alg, labels := range keysOf {
		for _, label := range labels {
			if label == "" {
				continue
			}
			if err := w.generate(label, types[alg], signer.Alg(alg).Use()); err != nil {
				return err
			}
		}
	}
	for i, sync := range []string{daemonSync: "always", daemonNoSync: "never"} {
		if w.daemons[i], err = w.serve(sync); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) generate(label string, typ provision.KeyType, use signer.Use) error {
	text, err := w.token.GenerateKey(label, typ, use)
	if err != nil {
		return err
	}
	uri, err := pkcs11.ParseURI(text)
	w.ids[label] = hex.EncodeToString([]byte(uri.ID))
	return err
}

// env is what a process needs to find the token.
func (w *world) env() []string { return []string{"SOFTHSM2_CONF=" + w.token.Conf()} }

// serve starts a daemon.
func (w *world) serve(sync string) (d running, err error) {
	bin, err := softhsm.Signetd()
	if err != nil {
		return d, err
	}
	path := func(name string) string { return filepath.Join(w.dir, sync+"-"+name) }
	d.socket = path("socket")
	var config bytes.Buffer
	if err := configTemplate.Execute(&config, map[string]any{
		"Socket": d.socket, "Audit": path("audit.jsonl"), "Sync": sync, "UID": os.Getuid(),
		"Module": w.token.Module(), "Token": w.token.Label(), "PINFile": w.token.PINFile(), "Keys": keysOf,
	}); err != nil {
		return d, err
	}
	if err := os.WriteFile(path("config.yaml"), config.Bytes(), 0o600); err != nil {
		return d, err
	}
	d.cmd = exec.CommandContext(w.ctx, bin, "serve", "--config", path("config.yaml")) // #nosec G204 -- our own program
	d.cmd.Env = append(os.Environ(), w.env()...)
	var stderr bytes.Buffer
	d.cmd.Stderr = &stderr
	if err := d.cmd.Start(); err != nil {
		return d, err
	}
	if err := answers(d.socket); err != nil {
		return d, fmt.Errorf("signetd: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return d, nil
}

// answers waits for somebody to listen at socket.
func answers(socket string) error {
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(until) {
			return err
		}
	}
}

const p11kitClient = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"

// p11kit starts p11-kit's server for the token, once, and returns its address.
func (w *world) p11kit() (address string, err error) {
	socket := filepath.Join(w.dir, "p11-kit")
	if w.server != nil {
		return "unix:path=" + socket, nil
	}
	w.server = exec.CommandContext(w.ctx, "p11-kit", "server", "-f", "-n", socket, "--provider", w.token.Module(), "pkcs11:token="+w.token.Label()) // #nosec G204 -- fixed words
	w.server.Env = append(os.Environ(), w.env()...)
	if err := w.server.Start(); err != nil {
		return "", err
	}
	return "unix:path=" + socket, answers(socket)
}

// close ends all processes and removes the token.
func (w *world) close() error {
	w.stop()
	for _, d := range w.daemons {
		if d.cmd != nil && d.cmd.Process != nil {
			_ = d.cmd.Wait() // it was killed
		}
	}
	if w.server != nil && w.server.Process != nil {
		_ = w.server.Wait()
	}
	return os.RemoveAll(w.dir)
}

// usage is what the kernel says of a process: the time that it has had on a
// processor, in microseconds, and its resident memory in MiB.
func (d running) usage() (cpu, rss float64) {
	if d.cmd == nil {
		return 0, 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // proc(5): state is the third
	number := func(i int) float64 {
		n, err := strconv.ParseFloat(fields[i-3], 64)
		if err != nil {
			return 0
		}
		return n
	}
	const ticks, page = 1e6 / 100, 4096.0
	return (number(14) + number(15)) * ticks, number(24) * page / (1 << 20)
}
