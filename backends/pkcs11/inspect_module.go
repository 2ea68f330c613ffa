//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
)

// An inspection fills in a report. One goroutine uses it, but for step.
type inspection struct {
	Report
	cfg  Config
	keys []KeyRef
	step atomic.Pointer[string] // what it does now, to be named if that does not end
}

func newInspection(cfg Config, keys []KeyRef) *inspection {
	in := &inspection{cfg: cfg, keys: keys}
	in.Module.Path = cfg.Module
	in.Slots, in.Keys = []SlotReport{}, []KeyReport{}
	if in.choosing() {
		in.Target = cfg.token().String()
	}
	return in
}

// at notes the next step, unless ctx has ended.
func (in *inspection) at(ctx context.Context, step string) {
	if ctx.Err() == nil {
		in.step.Store(&step)
	}
}

// choosing reports whether the config names one token.
func (in *inspection) choosing() bool { return in.cfg.Token != "" || in.cfg.Serial != "" }

// words returns the text of an error without the sentinels at its start, which are for
// programs: a finding has its severity and code beside the text.
func words(err error) string {
	text := err.Error()
	for cut := true; cut; {
		cut = false
		for _, kind := range []error{signer.ErrInvalid, signer.ErrNotFound, signer.ErrUnsupported, signer.ErrUnavailable, errors.New("pkcs11")} {
			if rest, ok := strings.CutPrefix(text, kind.Error()+": "); ok {
				text, cut = rest, true
			}
		}
	}
	return text
}

// loadModule loads and initialises the module, or reports why not.
func (in *inspection) loadModule(ctx context.Context) *cryptoki.Module {
	const subject = "module"
	path := in.cfg.Module
	if !filepath.IsAbs(path) {
		in.add(Fail, "module-path", subject, fmt.Sprintf("%q is not an absolute path", path), "give the absolute path of the PKCS#11 library")
		return nil
	}

	in.at(ctx, "load and initialise the module")
	err := cryptoki.CheckModule(path)
	if _, missing := os.Stat(path); errors.Is(missing, os.ErrNotExist) {
		in.add(Fail, "module-missing", subject, words(err), "install the HSM's client software, or correct the path")
		return nil
	}
	if err != nil {
		in.add(Fail, "module-unusable", subject, words(err), "name the HSM's PKCS#11 library for this architecture, readable by this user")
		return nil
	}

	m, err := cryptoki.Acquire(path, in.cfg.InitArgs)
	if err != nil {
		in.add(Fail, "module-refused", subject, words(err), "see that the libraries it needs are there (ldd), and that this user may read its own configuration")
		return nil
	}
	in.Module.Loaded = true
	in.add(OK, "module", subject, "loaded and initialised", "")
	return m
}

// askModule has the module say what it is and what is in its slots.
func (in *inspection) askModule(ctx context.Context, m *cryptoki.Module) {
	in.at(ctx, "ask the module what it is (C_GetInfo)")
	if info, err := m.Info(); err == nil {
		in.Module.Description, in.Module.Manufacturer = info.LibraryDescription, info.ManufacturerID
		in.Module.Version, in.Module.Cryptoki = versionText(info.LibraryVersion), versionText(info.CryptokiVersion)
	}

	in.at(ctx, "list the slots (C_GetSlotList)")
	slots, err := m.Slots()
	if err != nil {
		in.add(Fail, "slots", "module", words(err), "see whether the HSM can be reached")
		return
	}
	for _, id := range slots {
		in.at(ctx, fmt.Sprintf("ask slot %d what is in it", id))
		in.Slots = append(in.Slots, in.askSlot(m, id))
	}
}

func (in *inspection) askSlot(m *cryptoki.Module, id uint) SlotReport {
	s := SlotReport{ID: id}
	if info, err := m.SlotInfo(id); err == nil {
		s.Description = info.SlotDescription
	}
	info, err := m.TokenInfo(id)
	if err != nil {
		s.Error = words(err)
		in.add(Warn, "slot", fmt.Sprintf("slot %d", id), s.Error, "see whether the device is there; the other slots are used nevertheless")
		return s
	}

	s.Token = in.describe(info)
	if !s.Token.Initialized {
		return s
	}
	mechanisms, err := m.Mechanisms(id)
	if err != nil {
		in.add(Warn, "mechanisms", fmt.Sprintf("slot %d", id), words(err), "")
	}
	for _, mechanism := range mechanisms {
		s.Token.Mechanisms = append(s.Token.Mechanisms, cryptoki.MechanismName(mechanism))
	}
	return s
}

// describe returns what a report says of a token.
func (in *inspection) describe(info p11.TokenInfo) *TokenReport {
	t := &TokenReport{
		Label: info.Label, Serial: info.SerialNumber, Manufacturer: info.ManufacturerID, Model: info.Model,
		Hardware: versionText(info.HardwareVersion), Firmware: versionText(info.FirmwareVersion),
		Initialized: info.Flags&p11.CKF_TOKEN_INITIALIZED != 0,
		Sessions:    SessionsReport{Max: known(endless(info.MaxSessionCount)), Open: known(info.SessionCount)},
		PIN: PINReport{
			Initialized: info.Flags&p11.CKF_USER_PIN_INITIALIZED != 0,
			MinLength:   info.MinPinLen, MaxLength: info.MaxPinLen,
			CountLow:    info.Flags&p11.CKF_USER_PIN_COUNT_LOW != 0,
			FinalTry:    info.Flags&p11.CKF_USER_PIN_FINAL_TRY != 0,
			Locked:      info.Flags&p11.CKF_USER_PIN_LOCKED != 0,
			ToBeChanged: info.Flags&p11.CKF_USER_PIN_TO_BE_CHANGED != 0,
		},
	}

	if in.choosing() {
		t.Sessions.Configured = in.cfg.sessions(info.MaxSessionCount)
	}
	return t
}

// known returns nil for CK_UNAVAILABLE_INFORMATION.
func known(n uint) *uint {
	if n == p11.CK_UNAVAILABLE_INFORMATION {
		return nil
	}
	return &n
}

// endless returns 0, for no limit (CK_EFFECTIVELY_INFINITE), where a token gives a limit
// that cannot be reached, as opencryptoki does.
func endless(n uint) uint {
	if n > math.MaxInt32 && n != p11.CK_UNAVAILABLE_INFORMATION {
		return 0
	}
	return n
}

func versionText(v p11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }
