//go:build cgo

package cryptoki

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// A Module is a PKCS#11 library that is loaded and initialised in this process. There is
// one for each library, however many backends use it: C_Initialize works once per
// process, and C_Finalize under a running call ends the process with SIGSEGV.
//
// It is safe for concurrent use. The methods that call into the module ask their caller
// to have entered it, see [Module.Enter].
//
// Locks are taken in the order gate, mu, sessions.
type Module struct {
	path string // as resolved; set before use

	// gate is held for reading during every call into the module, and for writing
	// while it is finalised and initialised anew.
	gate sync.RWMutex

	// generation counts calls of C_Initialize. It is written under mu.
	generation atomic.Uint64

	mu        sync.Mutex         // serialises initialisation and logins; held during their calls
	ctx       *p11.Ctx           // set once under mu; the library is never unloaded: its threads may still run
	functions functions          // set with ctx: the same library
	users     int                // under mu; the module is initialised while it is above 0
	initArgs  string             // under mu
	logins    map[TokenID]*Login // under mu
	refused   map[refusal]bool   // under mu

	sessions sync.Mutex // serialises opening and closing of sessions
	owners   map[p11.SessionHandle]*Session
}

// modules holds each library that was ever loaded, by its resolved path.
var modules = struct {
	sync.Mutex
	byPath map[string]*Module
}{byPath: make(map[string]*Module)}

// Acquire loads the PKCS#11 library at path, initialises it with initArgs as pReserved
// (none if empty), and returns it. If the process has it initialised already, Acquire
// shares it, and initArgs must be the same. Each Module that is returned needs one
// [Module.Release].
func Acquire(path, initArgs string) (*Module, error) {
	if err := CheckModule(path); err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, signer.NeedsOperator(fmt.Errorf("%w: pkcs11 module: %w", signer.ErrUnavailable, err))
	}

	modules.Lock()
	m := modules.byPath[real]
	if m == nil {
		m = &Module{
			path:    real,
			logins:  make(map[TokenID]*Login),
			refused: make(map[refusal]bool),
			owners:  make(map[p11.SessionHandle]*Session),
		}
		modules.byPath[real] = m
	}
	modules.Unlock()

	if err := m.acquire(initArgs); err != nil {
		return nil, fmt.Errorf("pkcs11 module %s: %w", path, err)
	}
	return m, nil
}

func (m *Module) acquire(initArgs string) error {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.ctx == nil {
		if err := m.load(); err != nil {
			return err
		}
	}

	switch {
	case m.users == 0:
		// It is an error if another part of the process has initialised the module
		// (CKR_CRYPTOKI_ALREADY_INITIALIZED): that part would finalise it under our
		// calls.
		m.initArgs = initArgs
		if err := m.initializeLocked(); err != nil {
			return err
		}
	case m.initArgs != initArgs:
		return fmt.Errorf("%w: it is initialised with other init_args, and once per process", signer.ErrInvalid)
	}

	m.users++
	return nil
}

// load loads the library. Our own loader goes first, because it has the error text of
// the dynamic loader, and asks for the list of functions before the binding relies on it.
func (m *Module) load() error {
	if err := tryLoad(m.path); err != nil {
		return signer.NeedsOperator(err)
	}
	ctx := p11.New(m.path)
	if ctx == nil {
		return fmt.Errorf("%w: the binding cannot load it", signer.ErrUnavailable)
	}
	m.ctx, m.functions = ctx, functionsOf(ctx)
	return nil
}

// initializeLocked calls C_Initialize. No handle of before means anything afterwards.
func (m *Module) initializeLocked() error {
	m.generation.Add(1)
	for _, l := range m.logins {
		l.keeper = nil
		l.epoch.Add(1)
	}
	m.sessions.Lock()
	clear(m.owners)
	m.sessions.Unlock()

	return m.initialize()
}

// Release finalises the module if no other user of it is left. No call into the module
// may be running.
func (m *Module) Release() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users--
	if m.users > 0 {
		return nil
	}
	return callError("C_Finalize", m.ctx.Finalize())
}

// Restart finalises the module and initialises it anew, unless that has happened since
// [Module.Generation] was generation. It waits for the calls that run, and keeps others
// out meanwhile. The caller must not have entered the module.
func (m *Module) Restart(generation uint64) error {
	m.gate.Lock()
	defer m.gate.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.users == 0 || m.generation.Load() != generation {
		return nil
	}
	_ = m.ctx.Finalize() // it may be finalised, or too broken to be
	return m.initializeLocked()
}

// Enter keeps the module from being finalised or initialised anew until [Module.Leave].
func (m *Module) Enter() { m.gate.RLock() }

// TryEnter is Enter, but does not wait: it reports false if the module is about to be
// initialised anew.
func (m *Module) TryEnter() bool { return m.gate.TryRLock() }

// Leave undoes one Enter.
func (m *Module) Leave() { m.gate.RUnlock() }

// Generation returns how many times the module was initialised.
func (m *Module) Generation() uint64 { return m.generation.Load() }

// Shared reports whether the module has more than one user.
func (m *Module) Shared() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.users > 1
}

// Info asks the module what it is. The caller has entered it.
func (m *Module) Info() (p11.Info, error) {
	info, err := m.ctx.GetInfo()
	return info, callError("C_GetInfo", err)
}

// Slots lists the slots that have a token. The caller has entered the module.
func (m *Module) Slots() ([]uint, error) {
	slots, err := m.ctx.GetSlotList(true) // it also makes some modules look again
	return slots, callError("C_GetSlotList", err)
}

// SlotInfo asks what a slot is. The caller has entered the module.
func (m *Module) SlotInfo(slot uint) (p11.SlotInfo, error) {
	info, err := m.ctx.GetSlotInfo(slot)
	return info, callError("C_GetSlotInfo", err)
}

// TokenInfo asks what token is in a slot. The caller has entered the module.
func (m *Module) TokenInfo(slot uint) (p11.TokenInfo, error) {
	info, err := m.ctx.GetTokenInfo(slot)
	return info, callError("C_GetTokenInfo", err)
}

// Mechanisms lists the mechanisms of the token in a slot, see [MechanismName]. The caller
// has entered the module.
func (m *Module) Mechanisms(slot uint) ([]uint, error) {
	list, err := m.ctx.GetMechanismList(slot)
	numbers := make([]uint, 0, len(list))
	for _, mechanism := range list {
		numbers = append(numbers, mechanism.Mechanism)
	}
	return numbers, callError("C_GetMechanismList", err)
}

// A TokenID is how a token is known, whatever slot it is in.
type TokenID struct {
	Label  string
	Serial string
}

// IDOf returns the ID of a token.
func IDOf(t p11.TokenInfo) TokenID { return TokenID{t.Label, t.SerialNumber} }

// String names the token in an error. A member that is empty is left out.
func (id TokenID) String() string {
	switch {
	case id.Serial == "":
		return fmt.Sprintf("token %q", id.Label)
	case id.Label == "":
		return fmt.Sprintf("token with serial %q", id.Serial)
	default:
		return fmt.Sprintf("token %q with serial %q", id.Label, id.Serial)
	}
}

func (id TokenID) matches(t p11.TokenInfo) bool {
	return (id.Label == "" || t.Label == id.Label) && (id.Serial == "" || t.SerialNumber == id.Serial)
}

// ErrNoToken means that the token was not found. No login was tried. It wraps
// signer.ErrUnavailable.
var ErrNoToken = fmt.Errorf("%w: no such token", signer.ErrUnavailable)

// FindToken returns the slot of the only token that id matches, an empty member of which
// matches any. The caller has entered the module.
func (m *Module) FindToken(id TokenID) (slot uint, info p11.TokenInfo, err error) {
	slots, err := m.Slots()
	if err != nil {
		return 0, info, err
	}

	var matches int
	var others []string
	for _, s := range slots {
		i, err := m.TokenInfo(s)
		switch {
		case err != nil:
			// A slot that does not answer must not hide the others.
			others = append(others, fmt.Sprintf("(slot %d: %v)", s, err))
		case i.Flags&p11.CKF_TOKEN_INITIALIZED == 0:
		case id.matches(i):
			matches++
			slot, info = s, i
		default:
			others = append(others, fmt.Sprintf("%q (serial %q)", i.Label, i.SerialNumber))
		}
	}

	switch {
	case matches == 1:
		return slot, info, nil
	case matches > 1 && id.Serial == "":
		return 0, info, fmt.Errorf("%w: %d tokens have the label %q: name one by its serial", signer.ErrInvalid, matches, id.Label)
	case matches > 1:
		return 0, info, fmt.Errorf("%w: %d tokens match %v", signer.ErrInvalid, matches, id)
	case len(others) == 0:
		return 0, info, fmt.Errorf("%w: %v: the module shows no token at all", ErrNoToken, id)
	default:
		return 0, info, fmt.Errorf("%w: %v: the module shows %s", ErrNoToken, id, strings.Join(others, ", "))
	}
}

// A Login is a token that this process is logged in to. PKCS#11 logs in a process and not
// a session, so all backends of the token share one. It is safe for concurrent use.
type Login struct {
	module *Module
	token  TokenID

	users int  // under module.mu
	pin   mark // under module.mu; of the PIN that the token took, or zero
	slot  uint // under module.mu

	// keeper is a session that does nothing. When a process closes its last session
	// with a token, the token logs it out. It is nil when it was lost. Under module.mu.
	keeper *Session

	epoch atomic.Uint64 // see Epoch; written under module.mu
	count atomic.Uint64 // of C_Login; written under module.mu

	// showing is held while a key that wants the PIN for each operation gets it: one at
	// a time, so that a PIN that the token begins to refuse is shown once.
	showing sync.Mutex
}

// Token returns the ID of the token.
func (l *Login) Token() TokenID { return l.token }

// Module returns the module of the token.
func (l *Login) Module() *Module { return l.module }

// Epoch returns a number that goes up with each C_Initialize of the module and before
// each C_Login to the token. From then on the handles of sessions and objects of an
// earlier epoch may be dead, or those of other sessions and keys.
func (l *Login) Epoch() uint64 { return l.epoch.Load() }

// Count returns how many times C_Login was called.
func (l *Login) Count() uint64 { return l.count.Load() }

// OpenSession opens a session with the token. The caller has entered the module.
func (l *Login) OpenSession() (*Session, error) {
	return l.module.openSession(l.slotNow())
}

func (l *Login) slotNow() uint {
	l.module.mu.Lock()
	defer l.module.mu.Unlock()
	return l.slot
}
