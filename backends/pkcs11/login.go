//go:build cgo

package pkcs11

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

// A login is a token that this process is logged in to. PKCS#11 logs in a
// process and not a session, so the backends of a token share it.
type login struct {
	users int
	pin   mark
	// keeper is a session that does nothing. When a process closes its last
	// session with a token, the token logs it out.
	keeper p11.SessionHandle
}

// A mark tells PINs apart without holding them: their HMAC under a key that
// only this process has.
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

// A refusal is a PIN that a token refused. It is not tried again by this
// process: a few wrong tries lock a token, and a reload must not be one.
type refusal struct {
	label, serial string
	pin           mark
}

// A credential is a PIN and the file it came from, for errors.
type credential struct {
	pin  []byte
	file string
}

// login logs in to the token in slot with at most one attempt, or joins the
// login that is there. Each call that succeeds needs a logout.
func (m *module) login(slot uint, c credential) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	token, err := m.ctx.GetTokenInfo(slot) // under the lock: its flags tell of the attempt before
	if err != nil {
		return callError("C_GetTokenInfo", err)
	}
	pin := markPIN(c.pin)
	if l := m.logins[slot]; l != nil {
		// The token would not look at the PIN: it answers that the user is
		// logged in already.
		if !hmac.Equal(l.pin[:], pin[:]) {
			return fmt.Errorf("%w: token %q: another PIN than the one in %s is in use for this token in this process", signer.ErrUnavailable, token.Label, c.file)
		}
		l.users++
		return nil
	}
	if m.refused[refusal{token.Label, token.SerialNumber, pin}] {
		return fmt.Errorf("%w: token %q has refused the PIN in %s before: it is not tried again until this process ends", signer.ErrUnavailable, token.Label, c.file)
	}
	if err := mayTry(token); err != nil {
		return err
	}
	l := &login{users: 1, pin: pin}
	if l.keeper, err = m.ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION); err != nil {
		return callError("C_OpenSession", err)
	}
	if err := m.loginOnceLocked(l.keeper, token, c, pin); err != nil {
		_ = m.ctx.CloseSession(l.keeper) // the login's error is the one to report
		return err
	}
	m.logins[slot] = l
	return nil
}

// mayTry refuses an attempt that could lock the token.
func mayTry(token p11.TokenInfo) error {
	switch {
	case token.Flags&p11.CKF_USER_PIN_LOCKED != 0:
		return fmt.Errorf("%w: token %q: its user PIN is locked: the security officer must unlock it", signer.ErrUnavailable, token.Label)
	case token.Flags&p11.CKF_USER_PIN_FINAL_TRY != 0:
		return fmt.Errorf("%w: token %q: one more wrong PIN locks it, so none is tried: log in once by another program with the right one", signer.ErrUnavailable, token.Label)
	}
	return nil
}

// loginOnceLocked is the only place that shows the token a PIN.
func (m *module) loginOnceLocked(s p11.SessionHandle, token p11.TokenInfo, c credential, pin mark) error {
	err := m.hot.login(s, p11.CKU_USER, c.pin)
	if err == nil {
		return nil
	}
	var rv p11.Error
	if !errors.As(err, &rv) || !refusesPIN(rv) {
		return fmt.Errorf("token %q: %w", token.Label, callError(callLogin, err))
	}
	m.refused[refusal{token.Label, token.SerialNumber, pin}] = true
	return fmt.Errorf("token %q refuses the PIN in %s: one attempt was used, and this PIN will not be tried again: %w",
		token.Label, c.file, &tokenError{callLogin, rv, signer.ErrUnavailable})
}

// refusesPIN reports whether rv is C_Login's word on the PIN rather than on the
// state of the token.
func refusesPIN(rv p11.Error) bool {
	switch rv {
	case p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_EXPIRED,
		p11.CKR_PIN_LOCKED, p11.CKR_USER_PIN_NOT_INITIALIZED, p11.CKR_ARGUMENTS_BAD:
		return true
	}
	return false
}

// logout ends the login if nobody else uses it.
func (m *module) logout(slot uint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.logins[slot]
	l.users--
	if l.users > 0 {
		return nil
	}
	delete(m.logins, slot)
	return errors.Join(
		callError("C_Logout", m.ctx.Logout(l.keeper)),
		callError("C_CloseSession", m.ctx.CloseSession(l.keeper)))
}
