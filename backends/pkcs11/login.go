//go:build cgo

package pkcs11

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// A tokenID is what a token is known by, whatever slot it is in.
type tokenID struct{ label, serial string }

func idOf(t p11.TokenInfo) tokenID { return tokenID{t.Label, t.SerialNumber} }

// A login is a token that this process is logged in to. PKCS#11 logs in a
// process and not a session, so the backends of a token share it.
type login struct {
	users int
	pin   mark // of the PIN that the token took
	slot  uint
	// keeper is a session that does nothing. When a process closes its last
	// session with a token, the token logs it out.
	keeper *session
	// count is of C_Login. It goes up before the call: from then on object handles
	// of before may be dead, or those of other keys.
	count atomic.Uint64
	// context is held while a key that wants the PIN for each operation gets it:
	// one at a time, so that a PIN that the token begins to refuse is shown once.
	context sync.Mutex
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
// process: a few wrong tries lock a token, and neither a reload nor a repair
// must be one.
type refusal struct {
	token tokenID
	pin   mark
}

// A credential is a PIN and the file it came from, for errors.
type credential struct {
	pin  []byte
	file string
}

// login logs in to the token in slot with at most one attempt, or joins the
// login that is there. Each call that succeeds needs a logout.
func (m *module) login(slot uint, c credential) (*login, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	token, err := m.ctx.GetTokenInfo(slot)
	if err != nil {
		return nil, callError("C_GetTokenInfo", err)
	}
	pin := markPIN(c.pin)
	if l := m.logins[idOf(token)]; l != nil {
		// The token would not look at the PIN: it answers that the user is
		// logged in already.
		if !hmac.Equal(l.pin[:], pin[:]) {
			return nil, signer.NeedsOperator(fmt.Errorf("%w: token %q: another PIN than the one in %s is in use for this token in this process", signer.ErrUnavailable, token.Label, c.file))
		}
		l.users++
		return l, nil
	}
	l := &login{users: 1, slot: slot}
	if err := m.repairLocked(l, token, func() (credential, error) { return c, nil }); err != nil {
		m.dropKeeperLocked(l) // the login's error is the one to report
		return nil, err
	}
	m.logins[idOf(token)] = l
	return l, nil
}

// repairLogin sees to it that l is what it should be: a token that answers and
// is the one it was, a keeper that is open, and a user who is logged in. It
// shows the token a PIN at most once, and only when nobody is logged in.
func (m *module) repairLogin(l *login, cfg Config, id tokenID, credential func() (credential, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.keeper == nil || l.keeper.generation != m.generation.Load() {
		cfg.Token, cfg.Serial = id.label, id.serial
		slot, _, err := m.findToken(cfg)
		if err != nil {
			return fmt.Errorf("%w: %w", errTokenGone, err)
		}
		l.slot = slot
	}
	token, err := m.ctx.GetTokenInfo(l.slot)
	if err != nil {
		return callError("C_GetTokenInfo", err)
	}
	if idOf(token) != id {
		return fmt.Errorf("%w: %w: its slot now holds token %q with serial %q", signer.ErrUnavailable, errTokenGone, token.Label, token.SerialNumber)
	}
	return m.repairLocked(l, token, credential)
}

// errTokenGone means that another token is where ours was, or none.
var errTokenGone = errors.New("the token is gone")

func (m *module) repairLocked(l *login, token p11.TokenInfo, credential func() (credential, error)) error {
	in, err := false, error(nil)
	if l.keeper != nil && l.keeper.generation == m.generation.Load() {
		in, err = l.keeper.loggedIn()
	}
	if l.keeper == nil || err != nil || l.keeper.generation != m.generation.Load() {
		if err := m.replaceKeeperLocked(l); err != nil {
			return err
		}
		if in, err = l.keeper.loggedIn(); err != nil {
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
	defer clear(c.pin)
	pin := markPIN(c.pin)
	if m.refused[refusal{idOf(token), pin}] {
		return errRefusedBefore(idOf(token), c.file)
	}
	if err := mayTry(token); err != nil {
		return err
	}
	if err := m.loginOnceLocked(l, token, c, pin); err != nil {
		return err
	}
	l.pin = pin
	return nil
}

// replaceKeeperLocked opens the new keeper before it closes the old one, which
// may be the last session and so the login.
func (m *module) replaceKeeperLocked(l *login) error {
	s, err := m.openSession(l.slot)
	if full(err) && l.keeper != nil {
		m.dropKeeperLocked(l)
		s, err = m.openSession(l.slot)
	}
	if err != nil {
		return err
	}
	m.dropKeeperLocked(l)
	l.keeper = s
	return nil
}

func (m *module) dropKeeperLocked(l *login) {
	if l.keeper != nil {
		l.keeper.close()
		l.keeper = nil
	}
}

// mayTry refuses an attempt that could lock the token.
func mayTry(token p11.TokenInfo) error {
	switch {
	case token.Flags&p11.CKF_USER_PIN_LOCKED != 0:
		return signer.NeedsOperator(fmt.Errorf("%w: token %q: its user PIN is locked: the security officer must unlock it", signer.ErrUnavailable, token.Label))
	case token.Flags&p11.CKF_USER_PIN_FINAL_TRY != 0:
		return signer.NeedsOperator(fmt.Errorf("%w: token %q: one more wrong PIN locks it, so none is tried: log in once by another program with the right one", signer.ErrUnavailable, token.Label))
	}
	return nil
}

// loginOnceLocked is the only place that shows the token a PIN to log in.
func (m *module) loginOnceLocked(l *login, token p11.TokenInfo, c credential, pin mark) error {
	l.count.Add(1)
	err := m.hot.login(l.keeper.handle, p11.CKU_USER, c.pin)
	if err == nil {
		return nil
	}
	var rv p11.Error
	if !errors.As(err, &rv) || !refusesPIN(rv) {
		return fmt.Errorf("token %q: %w", token.Label, callError(callLogin, err))
	}
	m.refused[refusal{idOf(token), pin}] = true
	return signer.NeedsOperator(fmt.Errorf("token %q refuses the PIN in %s: one attempt was used, and this PIN will not be tried again: %w",
		token.Label, c.file, callError(callLogin, rv)))
}

// showPIN runs f, which shows the token the PIN for one operation of a key that
// wants that (CKU_CONTEXT_SPECIFIC). A wrong one counts like a wrong login.
func (m *module) showPIN(l *login, id tokenID, credential func() (credential, error), f func(pin []byte) (int, error)) (int, error) {
	l.context.Lock()
	defer l.context.Unlock()
	c, err := credential()
	if err != nil {
		return 0, unavailable(err)
	}
	defer clear(c.pin)
	pin := markPIN(c.pin)
	if err := m.mayShow(l, id, pin, c.file); err != nil {
		return 0, err
	}
	n, err := f(c.pin)
	m.mu.Lock()
	defer m.mu.Unlock()
	var e *tokenError
	switch {
	case err == nil:
		l.pin = pin
	case errors.As(err, &e) && e.call == callLogin && e.class == classLogin:
		m.refused[refusal{id, pin}] = true
		err = signer.NeedsOperator(fmt.Errorf("token %q refuses the PIN in %s: one attempt was used, and this PIN will not be tried again: %w", id.label, c.file, err))
	}
	return n, err
}

// mayShow refuses to show the token a PIN that it has refused before, or one
// that it has not yet taken if that could lock it.
func (m *module) mayShow(l *login, id tokenID, pin mark, file string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused[refusal{id, pin}] {
		return errRefusedBefore(id, file)
	}
	if l.pin == pin {
		return nil
	}
	token, err := m.ctx.GetTokenInfo(l.slot)
	if err != nil {
		return callError("C_GetTokenInfo", err)
	}
	return mayTry(token)
}

func errRefusedBefore(id tokenID, file string) error {
	return signer.NeedsOperator(fmt.Errorf("%w: token %q has refused the PIN in %s before: it is not tried again until the file holds another", signer.ErrUnavailable, id.label, file))
}

// logout ends the login if nobody else uses it.
func (m *module) logout(id tokenID) error {
	m.gate.RLock()
	defer m.gate.RUnlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.logins[id]
	l.users--
	if l.users > 0 {
		return nil
	}
	delete(m.logins, id)
	defer m.dropKeeperLocked(l)
	if l.keeper == nil || l.keeper.generation != m.generation.Load() {
		return nil // it was lost, and not found again
	}
	err := callError("C_Logout", m.ctx.Logout(l.keeper.handle))
	if classOf(err) == classSession || classOf(err) == classDevice {
		return nil // there was nothing to log out of
	}
	return err
}
