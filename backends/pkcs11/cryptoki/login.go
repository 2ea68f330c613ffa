//go:build cgo

package cryptoki

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// A mark tells PINs apart without holding them: their HMAC under a key that only this
// process has.
type mark [sha256.Size]byte

var markKey = sync.OnceValue(func() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails (Go 1.24)
	return key
})

func markPIN(pin []byte) mark {
	h := hmac.New(sha256.New, markKey())
	h.Write(pin)
	return mark(h.Sum(nil))
}

// A refusal is a PIN that a token refused. This process does not try it again: a few
// wrong tries lock a token, and neither a reload nor a repair must be one.
type refusal struct {
	token TokenID
	pin   mark
}

// A Credential is a PIN and the file that it came from, which errors name.
type Credential struct {
	PIN  []byte
	File string
}

// Login logs in to the token in slot with at most one attempt, or joins the login that
// the process has already. Each Login needs one [Login.Logout]. The PIN is wiped if it was
// shown. The caller has entered the module.
func (m *Module) Login(slot uint, c Credential) (*Login, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	token, err := m.TokenInfo(slot)
	if err != nil {
		return nil, err
	}

	if l := m.logins[IDOf(token)]; l != nil {
		// The token itself would not look at the PIN: it answers that the user is
		// logged in already.
		pin := markPIN(c.PIN)
		if !hmac.Equal(l.pin[:], pin[:]) {
			return nil, signer.NeedsOperator(fmt.Errorf("%w: token %q: another PIN than the one in %s is in use for this token in this process", signer.ErrUnavailable, token.Label, c.File))
		}
		l.users++
		return l, nil
	}

	l := &Login{module: m, token: IDOf(token), users: 1, slot: slot}
	if err := l.repairLocked(token, func() (Credential, error) { return c, nil }); err != nil {
		l.dropKeeperLocked() // the login's error is the one to report
		return nil, err
	}
	m.logins[l.token] = l
	return l, nil
}

// ErrTokenGone means that the slot of the token holds another one, or none.
var ErrTokenGone = errors.New("the token is gone")

// Ask asks the token who it is. It uses no session. The caller has entered the module.
func (l *Login) Ask() error {
	_, err := l.ask(l.slotNow())
	return err
}

func (l *Login) ask(slot uint) (p11.TokenInfo, error) {
	token, err := l.module.TokenInfo(slot)
	if err == nil && IDOf(token) != l.token {
		err = fmt.Errorf("%w: %w: its slot now holds token %q with serial %q", signer.ErrUnavailable, ErrTokenGone, token.Label, token.SerialNumber)
	}
	return token, err
}

// Touch uses the session that keeps the login, and reports whether the user is still
// logged in. The caller has entered the module.
func (l *Login) Touch() error {
	l.module.mu.Lock()
	defer l.module.mu.Unlock()
	if l.keeper == nil {
		return nil
	}
	in, err := l.keeper.LoggedIn()
	if err == nil && !in {
		return NotLoggedIn("C_GetSessionInfo")
	}
	return err
}

// Repair sees to it that the token answers and is the one that it was, that the session
// that keeps the login is open, and that the user is logged in. It shows the token a PIN
// at most once, and only when the user is not logged in. The PIN that credential returns
// is wiped. The caller has entered the module.
func (l *Login) Repair(credential func() (Credential, error)) error {
	l.module.mu.Lock()
	defer l.module.mu.Unlock()

	if l.keeper == nil {
		slot, _, err := l.module.FindToken(l.token)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTokenGone, err)
		}
		l.slot = slot
	}
	token, err := l.ask(l.slot)
	if err != nil {
		return err
	}
	return l.repairLocked(token, credential)
}

func (l *Login) repairLocked(token p11.TokenInfo, credential func() (Credential, error)) error {
	in, err := false, error(nil)
	if l.keeper != nil {
		in, err = l.keeper.LoggedIn()
	}
	if l.keeper == nil || err != nil {
		if err := l.replaceKeeperLocked(); err != nil {
			return err
		}
		if in, err = l.keeper.LoggedIn(); err != nil {
			return err
		}
	}
	if in && l.pin != (mark{}) {
		return nil
	}

	c, err := credential()
	if err != nil {
		return err
	}
	defer clear(c.PIN)
	pin := markPIN(c.PIN)
	if err := l.mayShowLocked(token, pin, c.File); err != nil {
		return err
	}
	if err := l.loginOnceLocked(c, pin); err != nil {
		return err
	}
	l.pin = pin
	return nil
}

// replaceKeeperLocked opens the new keeper before it closes the old one, which may be the
// last session and so the login.
func (l *Login) replaceKeeperLocked() error {
	s, err := l.module.openSession(l.slot)
	if Full(err) && l.keeper != nil {
		l.dropKeeperLocked()
		s, err = l.module.openSession(l.slot)
	}
	if err != nil {
		return err
	}
	l.dropKeeperLocked()
	l.keeper = s
	return nil
}

func (l *Login) dropKeeperLocked() {
	if l.keeper != nil {
		l.keeper.Close()
		l.keeper = nil
	}
}

// mayShowLocked refuses to show the token a PIN that it has refused before, and any PIN
// that could lock it.
func (l *Login) mayShowLocked(token p11.TokenInfo, pin mark, file string) error {
	switch {
	case l.module.refused[refusal{l.token, pin}]:
		return errRefusedBefore(l.token, file)
	case token.Flags&p11.CKF_USER_PIN_LOCKED != 0:
		return signer.NeedsOperator(fmt.Errorf("%w: token %q: its user PIN is locked: the security officer must unlock it", signer.ErrUnavailable, token.Label))
	case token.Flags&p11.CKF_USER_PIN_FINAL_TRY != 0:
		return signer.NeedsOperator(fmt.Errorf("%w: token %q: one more wrong PIN locks it, so none is tried: log in once by another program with the right one", signer.ErrUnavailable, token.Label))
	}
	return nil
}

func errRefusedBefore(id TokenID, file string) error {
	return signer.NeedsOperator(fmt.Errorf("%w: token %q has refused the PIN in %s before: it is not tried again until the file holds another", signer.ErrUnavailable, id.Label, file))
}

// loginOnceLocked is the only place that shows the token a PIN to log in.
func (l *Login) loginOnceLocked(c Credential, pin mark) error {
	// Before the call: it may change what handles mean even if it fails.
	l.epoch.Add(1)
	l.count.Add(1)

	err := l.module.functions.login(l.keeper.handle, p11.CKU_USER, c.PIN)
	var rv p11.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &rv) || !refusesPIN(rv):
		return fmt.Errorf("token %q: %w", l.token.Label, callError(callLogin, err))
	}
	return l.refuseLocked(pin, c.File, callError(callLogin, rv))
}

// refuseLocked notes that the token refused a PIN.
func (l *Login) refuseLocked(pin mark, file string, err error) error {
	l.module.refused[refusal{l.token, pin}] = true
	return signer.NeedsOperator(fmt.Errorf("token %q refuses the PIN in %s: one attempt was used, and this PIN will not be tried again: %w", l.token.Label, file, err))
}

// ShowPIN runs f, which shows the token the PIN for one operation of a key that wants
// that (CKU_CONTEXT_SPECIFIC). A wrong PIN counts like a wrong login. The PIN that
// credential returns is wiped. The caller has entered the module.
func (l *Login) ShowPIN(credential func() (Credential, error), f func(pin []byte) (int, error)) (int, error) {
	l.showing.Lock()
	defer l.showing.Unlock()

	c, err := credential()
	if err != nil {
		return 0, err
	}
	defer clear(c.PIN)
	pin := markPIN(c.PIN)
	if err := l.mayShow(pin, c.File); err != nil {
		return 0, err
	}

	n, err := f(c.PIN)

	l.module.mu.Lock()
	defer l.module.mu.Unlock()
	var e *tokenError
	switch {
	case err == nil:
		l.pin = pin
	case errors.As(err, &e) && e.call == callLogin && e.class == ClassLogin:
		err = l.refuseLocked(pin, c.File, err)
	}
	return n, err
}

// mayShow refuses to show the token a PIN that it has refused before, or one that it has
// not yet taken if that could lock it.
func (l *Login) mayShow(pin mark, file string) error {
	l.module.mu.Lock()
	defer l.module.mu.Unlock()
	switch {
	case l.module.refused[refusal{l.token, pin}]:
		return errRefusedBefore(l.token, file)
	case l.pin == pin:
		return nil
	}
	token, err := l.module.TokenInfo(l.slot)
	if err != nil {
		return err
	}
	return l.mayShowLocked(token, pin, file)
}

// Logout ends the login if no other user of it is left. The caller has entered the
// module.
func (l *Login) Logout() error {
	m := l.module
	m.mu.Lock()
	defer m.mu.Unlock()

	l.users--
	if l.users > 0 {
		return nil
	}
	delete(m.logins, l.token)
	if l.keeper == nil {
		return nil // it was lost, and not found again
	}
	defer l.dropKeeperLocked()

	err := callError("C_Logout", m.ctx.Logout(l.keeper.handle))
	if Lost(err) {
		return nil // there was nothing to log out of
	}
	return err
}
