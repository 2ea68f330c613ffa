//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// A module is a PKCS#11 library in this process. There is one of each, however
// many backends use it: C_Initialize works once per process, and C_Finalize
// under a running call ends the process with SIGSEGV.
type module struct {
	path string

	// gate is held for reading during every call into the module, and for
	// writing to initialise it anew. It comes before mu.
	gate sync.RWMutex
	// generation counts initialisations: handles of one mean nothing in the next.
	generation atomic.Uint64

	mu       sync.Mutex // serialises initialisation and logins; held during calls into the module
	ctx      *p11.Ctx   // set once; the library is never unloaded, its threads may still run
	hot      hot        // set with ctx: the same library
	users    int        // initialised while above 0
	initArgs string
	logins   map[tokenID]*login
	refused  map[refusal]bool

	sessions sync.Mutex // serialises opening and closing sessions
	owners   map[p11.SessionHandle]*session
}

var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: make(map[string]*module)}

// acquireModule returns the initialised module at path. Each call needs a
// release.
func acquireModule(path, initArgs string) (*module, error) {
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
		m = &module{
			path:    real,
			logins:  make(map[tokenID]*login),
			refused: make(map[refusal]bool),
			owners:  make(map[p11.SessionHandle]*session),
		}
		modules.byPath[real] = m
	}
	modules.Unlock()
	if err := m.acquire(initArgs); err != nil {
		return nil, fmt.Errorf("pkcs11 module %s: %w", path, err)
	}
	return m, nil
}

func (m *module) acquire(initArgs string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx == nil {
		if err := m.load(); err != nil {
			return err
		}
	}
	switch {
	case m.users == 0:
		m.initArgs = initArgs
		// Somebody else's initialisation is an error here: whoever made it will
		// finalise the module under our calls.
		if err := m.initializeLocked(); err != nil {
			return err
		}
	case m.initArgs != initArgs:
		return fmt.Errorf("%w: it is initialised with other init_args, and once per process", signer.ErrInvalid)
	}
	m.users++
	return nil
}

// load loads the library. Our own loader comes first: it has the words of the
// dynamic loader, and asks for the functions before the binding relies on them.
func (m *module) load() error {
	if err := tryLoad(m.path); err != nil {
		return signer.NeedsOperator(err)
	}
	ctx := p11.New(m.path)
	if ctx == nil {
		return fmt.Errorf("%w: the binding cannot load it", signer.ErrUnavailable)
	}
	m.ctx, m.hot = ctx, hotOf(ctx)
	return nil
}

// release finalises the module if nobody else uses it. The caller has no call
// into the module running.
func (m *module) release() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users--
	if m.users > 0 {
		return nil
	}
	return callError("C_Finalize", m.ctx.Finalize())
}

// restart finalises the module and initialises it anew, unless that has happened
// since generation. It waits for the calls that run, and keeps others out
// meanwhile.
func (m *module) restart(generation uint64) error {
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

// crowded reports whether other backends use m, too.
func (m *module) crowded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.users > 1
}

// errNoToken means that the token was not found. No login was tried.
var errNoToken = errors.New("no")

// findToken returns the slot of the one token that cfg names. A slot that does
// not answer is no reason not to look at the others.
func (m *module) findToken(cfg Config) (slot uint, info p11.TokenInfo, err error) {
	slots, err := m.ctx.GetSlotList(true) // it also makes some modules look again
	if err != nil {
		return 0, info, callError("C_GetSlotList", err)
	}
	var matches int
	var others []string
	for _, s := range slots {
		i, err := m.ctx.GetTokenInfo(s)
		switch {
		case err != nil:
			others = append(others, fmt.Sprintf("(slot %d: %v)", s, callError("C_GetTokenInfo", err)))
		case i.Flags&p11.CKF_TOKEN_INITIALIZED == 0:
		case (cfg.Token == "" || i.Label == cfg.Token) && (cfg.Serial == "" || i.SerialNumber == cfg.Serial):
			matches++
			slot, info = s, i
		default:
			others = append(others, fmt.Sprintf("%q (serial %q)", i.Label, i.SerialNumber))
		}
	}
	switch {
	case matches == 1:
		return slot, info, nil
	case matches > 1 && cfg.Serial == "":
		return 0, info, fmt.Errorf("%w: %d tokens have the label %q: name one by its serial", signer.ErrInvalid, matches, cfg.Token)
	case matches > 1:
		return 0, info, fmt.Errorf("%w: %d tokens match %v", signer.ErrInvalid, matches, cfg)
	case len(others) == 0:
		return 0, info, fmt.Errorf("%w: %w %v: the module shows no token at all", signer.ErrUnavailable, errNoToken, cfg)
	default:
		return 0, info, fmt.Errorf("%w: %w %v: there are %s", signer.ErrUnavailable, errNoToken, cfg, strings.Join(others, ", "))
	}
}
