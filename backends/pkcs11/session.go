//go:build cgo

package pkcs11

import (
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// maxFound bounds how many objects a search looks at: more than one is an error
// anyway.
const maxFound = 64

// A session is one PKCS#11 session. One goroutine uses it at a time.
type session struct {
	ctx        *p11.Ctx
	hot        hot
	handle     p11.SessionHandle
	module     *module
	generation uint64 // of the module
	stamp      stamp  // of the backend
}

// A stamp says from when a session or an object handle is: after another login,
// initialisation or repair it may be dead, or that of another session or key.
type stamp struct{ generation, logins, epoch uint64 }

// openSession opens a read-only session. It is logged in if the token is. The
// caller holds the gate.
func (m *module) openSession(slot uint) (*session, error) {
	m.sessions.Lock()
	defer m.sessions.Unlock()
	h, err := m.ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION)
	if err != nil {
		return nil, callError("C_OpenSession", err)
	}
	s := &session{ctx: m.ctx, hot: m.hot, handle: h, module: m, generation: m.generation.Load()}
	m.owners[h] = s
	return s, nil
}

// close closes the session, unless its handle means nothing any more or belongs
// to another by now: tokens use the handle of a session that they dropped again,
// and to close one under a running call ends the process. There is nothing to do
// about an error: the session is lost either way. The caller holds the gate.
func (s *session) close() {
	m := s.module
	m.sessions.Lock()
	defer m.sessions.Unlock()
	if m.owners[s.handle] != s {
		return
	}
	delete(m.owners, s.handle)
	if s.generation == m.generation.Load() {
		_ = s.ctx.CloseSession(s.handle)
	}
}

// loggedIn reports whether the session is that of a user. An error means that
// it is lost.
func (s *session) loggedIn() (bool, error) {
	info, err := s.ctx.GetSessionInfo(s.handle)
	return info.State == p11.CKS_RO_USER_FUNCTIONS || info.State == p11.CKS_RW_USER_FUNCTIONS, callError("C_GetSessionInfo", err)
}

// doubt asks, when an operation came to err, whether the user is still logged in.
// What tokens say when nobody is can be anything: NSS speaks of the size of the key,
// of a lack of memory, or of the ciphertext. It asks for whatever was said of an
// input, so that no answer takes longer than another.
func (s *session) doubt(err error) error {
	switch classOf(err) {
	case classMisuse, classInput, classCapacity:
	case classNone, classSession, classDevice, classLogin:
		return err
	}
	in, answer := s.loggedIn()
	switch {
	case lost(answer):
		return answer
	case answer == nil && !in:
		return callError("C_GetSessionInfo", p11.Error(p11.CKR_USER_NOT_LOGGED_IN))
	default:
		return err
	}
}

// find returns the objects that match template.
func (s *session) find(template []*p11.Attribute) (found []p11.ObjectHandle, err error) {
	if err := s.ctx.FindObjectsInit(s.handle, template); err != nil {
		return nil, callError("C_FindObjectsInit", err)
	}
	defer func() {
		if end := s.ctx.FindObjectsFinal(s.handle); err == nil {
			err = callError("C_FindObjectsFinal", end)
		}
	}()
	for len(found) < maxFound {
		some, _, err := s.ctx.FindObjects(s.handle, maxFound-len(found))
		if err != nil {
			return nil, callError("C_FindObjects", err)
		}
		if len(some) == 0 {
			break
		}
		found = append(found, some...)
	}
	return found, nil
}

// attribute returns the value of an attribute, or nil if the object has none.
// Attributes are asked for one at a time, since one that an object does not
// have fails the whole call.
func (s *session) attribute(o p11.ObjectHandle, typ uint) ([]byte, error) {
	attrs, err := s.ctx.GetAttributeValue(s.handle, o, []*p11.Attribute{p11.NewAttribute(typ, nil)})
	err = callError("C_GetAttributeValue", err)
	if answered(err, p11.CKR_ATTRIBUTE_TYPE_INVALID) || answered(err, p11.CKR_ATTRIBUTE_SENSITIVE) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return attrs[0].Value, nil
}

// flag returns a CK_BBOOL attribute, false if the object does not have it.
func (s *session) flag(o p11.ObjectHandle, typ uint) (bool, error) {
	v, err := s.attribute(o, typ)
	return len(v) == 1 && v[0] != 0, err
}

// one returns the only object in found. what and ref name it in errors.
func one(found []p11.ObjectHandle, what string, ref fmt.Stringer) (p11.ObjectHandle, error) {
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("%w: the token has no %s that matches %v", signer.ErrNotFound, what, ref)
	case 1:
		return found[0], nil
	case maxFound:
		return 0, fmt.Errorf("%w: the token has %d %ss or more that match %v: give the id, too", signer.ErrInvalid, maxFound, what, ref)
	default:
		return 0, fmt.Errorf("%w: the token has %d %ss that match %v: give the id, too", signer.ErrInvalid, len(found), what, ref)
	}
}
