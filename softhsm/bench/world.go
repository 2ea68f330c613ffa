//go:build linux && cgo

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"signetd/backends/pkcs11"
	"signetd/signer"
	"signetd/softhsm"
	"signetd/softhsm/bench/load"
)

// A world holds the tokens with their keys, and the daemons and servers that use them.
// All but the small token is made when it is first asked for.
type world struct {
	dir     string
	small   *hsm // with ten keys
	large   *hsm // with a thousand objects
	daemons map[daemonKind]*served
	server  *exec.Cmd // p11-kit's
	limit   string    // the program of the limit
	limits  int       // how often it was started
	stop    context.CancelFunc
	ctx     context.Context //nolint:containedctx // the life of the processes, which all end with it
}

func newWorld(ctx context.Context) (*world, error) {
	w := &world{daemons: map[daemonKind]*served{}}
	w.ctx, w.stop = context.WithCancel(ctx)
	var err error
	if w.dir, err = os.MkdirTemp("", "signetd-bench-"); err == nil {
		w.small, err = newHSM(filepath.Join(w.dir, "token"))
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// largeToken returns the token with a thousand objects.
func (w *world) largeToken() (*hsm, error) {
	if w.large != nil {
		return w.large, nil
	}
	h, err := newHSM(filepath.Join(w.dir, "large"))
	if err != nil {
		return nil, err
	}

	// A module belongs to one process, so a worker makes the keys.
	filler, err := h.start(load.Job{Kind: "fill", Labels: largeLabels()})
	if err == nil {
		err = filler.Stop()
	}
	if err != nil {
		return nil, err
	}
	w.large = h
	return h, nil
}

// An hsm is a token with the ten keys.
type hsm struct {
	*softhsm.Token
	ids map[string]string // CKA_ID in hexadecimal digits, by label
}

func newHSM(dir string) (*hsm, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	token, err := softhsm.Create(dir, "bench")
	if err != nil {
		return nil, err
	}

	h := &hsm{Token: token, ids: map[string]string{}}
	for _, k := range tenKeys() {
		text, err := token.GenerateKey(k.Label, keyTypes[k.Alg], signer.Alg(k.Alg).Use())
		if err != nil {
			return nil, err
		}
		uri, err := pkcs11.ParseURI(text)
		if err != nil {
			return nil, err
		}
		h.ids[k.Label] = hex.EncodeToString([]byte(uri.ID))
	}
	return h, nil
}

// env is what a process needs to find the token.
func (h *hsm) env() []string { return []string{"SOFTHSM2_CONF=" + h.Conf()} }

// job returns j with what reaches the token.
func (h *hsm) job(j load.Job) load.Job {
	j.Module, j.Token, j.PIN, j.PINFile, j.ID = h.Module(), h.Label(), h.PIN(), h.PINFile(), h.ids[j.Key]
	return j
}

// start starts a worker that uses the token itself.
func (h *hsm) start(j load.Job) (*load.Worker, error) { return load.Start(h.env(), h.job(j)) }

// p11kitClients are where Debian and Fedora put p11-kit's client.
var p11kitClients = []string{"/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so", "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so", "/usr/lib64/pkcs11/p11-kit-client.so"}

func p11kitClient() (string, error) {
	for _, path := range p11kitClients {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("p11-kit-client.so is not installed: install the packages p11-kit and p11-kit-modules")
}

// p11kit returns the address of p11-kit's server for the token, which it starts once.
func (w *world) p11kit() (address string, err error) {
	socket := filepath.Join(w.dir, "p11-kit")
	address = "unix:path=" + socket
	if w.server != nil {
		return address, nil
	}

	server := exec.CommandContext(w.ctx, "p11-kit", "server", "-f", "-n", socket, "--provider", w.small.Module(), "pkcs11:token="+w.small.Label()) // #nosec G204 -- fixed words
	server.Env = append(os.Environ(), w.small.env()...)
	if err := server.Start(); err != nil {
		return "", fmt.Errorf("p11-kit server: %w", err)
	}
	w.server = server

	for until := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err == nil {
			return address, c.Close()
		}
		if time.Now().After(until) {
			return "", err
		}
	}
}

// close ends all processes and removes the tokens.
func (w *world) close() error {
	w.stop()
	for _, d := range w.daemons {
		_ = d.cmd.Wait() // it was killed
	}
	if w.server != nil {
		_ = w.server.Wait()
	}
	return os.RemoveAll(w.dir)
}
