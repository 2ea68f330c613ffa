//go:build cgo

package cryptoki

import (
	p11 "github.com/miekg/pkcs11"
)

// MaxFound is how many objects [Session.Find] returns at most.
const MaxFound = 64

// A Session is one PKCS#11 session. Two threads must not use it at once. The caller of
// any of its methods has entered the module.
type Session struct {
	module *Module
	handle p11.SessionHandle
}

// openSession opens a read-only session. It is logged in if the token is.
func (m *Module) openSession(slot uint) (*Session, error) {
	m.sessions.Lock()
	defer m.sessions.Unlock()
	h, err := m.ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION)
	if err != nil {
		return nil, callError("C_OpenSession", err)
	}
	s := &Session{module: m, handle: h}
	m.owners[h] = s
	return s, nil
}

// Close closes the session. An error is not reported: the session is lost either way.
func (s *Session) Close() {
	m := s.module
	m.sessions.Lock()
	defer m.sessions.Unlock()

	// A token may use the handle of a session that it dropped for a new one, and after
	// C_Initialize all handles are new. To close another's session under a running call
	// ends the process.
	if m.owners[s.handle] != s {
		return
	}
	delete(m.owners, s.handle)
	_ = m.ctx.CloseSession(s.handle)
}

// LoggedIn reports whether the session is that of a user. An error means that the
// session is lost.
func (s *Session) LoggedIn() (bool, error) {
	info, err := s.module.ctx.GetSessionInfo(s.handle)
	return info.State == p11.CKS_RO_USER_FUNCTIONS || info.State == p11.CKS_RW_USER_FUNCTIONS, callError("C_GetSessionInfo", err)
}

// Doubt asks whether the user is still logged in, after an operation ended with err. It
// returns err, or what the session answered if the login or the session is lost.
//
// A token that has logged the user out may answer anything: NSS speaks of the size of the
// key, of a lack of memory, or of the ciphertext. Doubt asks for each answer that may be
// about an input, so that none takes longer than another.
func (s *Session) Doubt(err error) error {
	switch ClassOf(err) {
	case ClassMisuse, ClassInput, ClassCapacity:
	case ClassNone, ClassSession, ClassDevice, ClassLogin:
		return err
	}
	in, answer := s.LoggedIn()
	switch {
	case Lost(answer):
		return answer
	case answer == nil && !in:
		return NotLoggedIn("C_GetSessionInfo")
	default:
		return err
	}
}

// Find returns the objects that match template, and no more than [MaxFound].
func (s *Session) Find(template []*p11.Attribute) (found []p11.ObjectHandle, err error) {
	ctx := s.module.ctx
	if err := ctx.FindObjectsInit(s.handle, template); err != nil {
		return nil, callError("C_FindObjectsInit", err)
	}
	defer func() {
		if end := ctx.FindObjectsFinal(s.handle); err == nil {
			err = callError("C_FindObjectsFinal", end)
		}
	}()

	for len(found) < MaxFound {
		some, _, err := ctx.FindObjects(s.handle, MaxFound-len(found))
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

// Attribute returns the value of an attribute, or nil if the object has none.
func (s *Session) Attribute(o p11.ObjectHandle, typ uint) ([]byte, error) {
	// One attribute at a time: one that the object does not have fails the whole call.
	attrs, err := s.module.ctx.GetAttributeValue(s.handle, o, []*p11.Attribute{p11.NewAttribute(typ, nil)})
	err = callError("C_GetAttributeValue", err)
	if Answered(err, p11.CKR_ATTRIBUTE_TYPE_INVALID) || Answered(err, p11.CKR_ATTRIBUTE_SENSITIVE) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return attrs[0].Value, nil
}

// Flag returns a CK_BBOOL attribute, false if the object does not have it.
func (s *Session) Flag(o p11.ObjectHandle, typ uint) (bool, error) {
	v, err := s.Attribute(o, typ)
	return len(v) == 1 && v[0] != 0, err
}
