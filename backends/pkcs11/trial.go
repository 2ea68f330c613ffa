//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// A trial tries the ways of using a key, one after the other: what a token says
// that it can do is not what it can do with this key.
type trial struct {
	*session
	h    p11.ObjectHandle
	k    *key
	used bool // a way was tried on the session, and failed
	own  bool // the session is not the pool's
}

// run runs f, which uses the key once. A way that fails leaves its operation
// active in some tokens, so that the next needs another session. That a key is of
// the wrong type says no more than that while the user is logged in.
func (t *trial) run(f func(*session, p11.ObjectHandle) error) error {
	err := f(t.session, t.h)
	if t.used && answered(err, p11.CKR_OPERATION_ACTIVE) {
		if err := t.renew(); err != nil {
			return err
		}
		err = f(t.session, t.h)
	}
	t.used = t.used || err != nil
	if answered(err, p11.CKR_KEY_TYPE_INCONSISTENT) || answered(err, p11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT) {
		if in, lost := t.loggedIn(); lost == nil && in {
			return fmt.Errorf("%w: %v", signer.ErrUnsupported, err) //nolint:errorlint // the session is not lost
		}
	}
	return err
}

// renew goes on with another session. The caller of open is inside the module.
func (t *trial) renew() error {
	s, err := t.module.openSession(t.k.backend.login.slotNow(t.module))
	if err != nil {
		return err
	}
	s.stamp = t.stamp
	t.end()
	t.session, t.own = s, true
	return nil
}

// end closes the session, unless it is the pool's.
func (t *trial) end() {
	if t.own {
		t.close()
	}
}

// lacks reports whether err means that the token does not have what was tried.
func lacks(err error) bool { return errors.Is(err, signer.ErrUnsupported) && !final(err) }

// final reports whether err ends the trials: the session is lost, or the key is
// not what it should be. Any other means that the token lacks the way.
func final(err error) bool { return lost(err) || errors.Is(err, signer.ErrInvalid) }

// unlessItSigns takes it as no error that a key that signs does nothing else.
func (k *key) unlessItSigns(err error) error {
	if len(k.forms) > 0 && errors.Is(err, signer.ErrUnsupported) {
		return nil
	}
	return err
}
