//go:build linux && cgo

package tokens

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// NewP11Kit starts a p11-kit server before a SoftHSM2 token: a token behind a connection,
// which [Token.Cut] breaks. From then on every call returns CKR_DEVICE_ERROR until the
// module is finalised and initialised again.
//
// The token has fewer mechanisms than SoftHSM2, and runs one call at a time. If several
// calls wait in the client when the connection breaks, one of them sometimes never returns:
// use one session (seen with p11-kit 0.24.1).
func NewP11Kit(tb testing.TB) *Token {
	tb.Helper()
	paths := need(tb, "p11kit", []string{"p11-kit"}, library("pkcs11/p11-kit-client.so"))
	if _, err := softhsm.Module(); err != nil {
		missing(tb, err.Error())
	}

	s := softhsm.New(tb)
	socket := filepath.Join(socketDir(tb), "s")
	server := start(tb, paths[0], "server", "-f", "-n", socket, "--provider", s.Module(), "pkcs11:token="+s.Label())
	wait(tb, "p11-kit server", exists(socket))

	// The server ends without waiting for its children.
	tb.Cleanup(func() {
		remotes, err := children(server)
		if err = errors.Join(err, killAll(remotes)); err != nil {
			tb.Error(err)
		}
		wait(tb, "p11-kit server", func() error {
			left, err := children(server)
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("processes %v are left", left)
			}
			return err
		})
	})

	tb.Setenv("P11_KIT_SERVER_ADDRESS", "unix:path="+socket)
	t := &Token{module: paths[1], label: s.Label(), pin: s.PIN(), pinFile: s.PINFile(), lacks: noGCM}
	t.generate = func(label string, typ provision.KeyType, use signer.Use) error {
		_, err := s.GenerateKey(label, typ, use) // in the token itself
		return err
	}

	t.cut = func() error {
		remotes, err := children(server) // one p11-kit-remote for each connection
		if err == nil && len(remotes) == 0 {
			err = errors.New("no p11-kit-remote runs: no module is connected")
		}
		return errors.Join(err, killAll(remotes))
	}
	return t
}

// killAll kills processes. It is no error if one has ended already.
func killAll(pids []int) (err error) {
	for _, pid := range pids {
		if kerr := syscall.Kill(pid, syscall.SIGKILL); !errors.Is(kerr, syscall.ESRCH) {
			err = errors.Join(err, kerr)
		}
	}
	return err
}
