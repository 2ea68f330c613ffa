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
)

// A world holds tokens with their keys, and the daemons and servers that serve them.
// What not every run needs is made when it is first asked for.
type world struct {
	dir     string
	small   *hsm // with ten keys
	large   *hsm // with a thousand objects
	daemons map[daemonKind]*served
	server  *exec.Cmd // p11-kit's
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
	if err := h.fill(largeLabels()); err != nil {
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

// start starts a worker that does a job with the token itself.
func (h *hsm) start(j job) (*worker, error) {
	j.Module, j.Token, j.PIN, j.PINFile, j.ID = h.Module(), h.Label(), h.PIN(), h.PINFile(), h.ids[j.Key]
	return startWorker(h.env(), j)
}

// fill makes more keys in the token, in a process of its own as for every module.
func (h *hsm) fill(labels []string) error {
	w, err := h.start(job{Kind: "fill", Labels: labels})
	if err != nil {
		return err
	}
	return w.stop()
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

// p11kit starts p11-kit's server for the token, once, and returns its address.
func (w *world) p11kit() (address string, err error) {
	socket := filepath.Join(w.dir, "p11-kit")
	if w.server != nil {
		return "unix:path=" + socket, nil
	}
	server := exec.CommandContext(w.ctx, "p11-kit", "server", "-f", "-n", socket, "--provider", w.small.Module(), "pkcs11:token="+w.small.Label()) // #nosec G204 -- fixed words
	server.Env = append(os.Environ(), w.small.env()...)
	if err := server.Start(); err != nil {
		return "", fmt.Errorf("p11-kit server: %w", err)
	}
	w.server = server
	return "unix:path=" + socket, answers(socket)
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
