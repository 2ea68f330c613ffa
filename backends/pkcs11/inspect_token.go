//go:build cgo

package pkcs11

import (
	"context"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/cryptoki"
)

const fixLocked = "have the security officer unlock it and set a new PIN"

// mayChoose reports whether one token is to be looked at. If the config is at fault, it
// adds a finding.
func (in *inspection) mayChoose() bool {
	if len(in.keys) > 0 || in.choosing() && in.cfg.PINFile != "" {
		if err := in.cfg.check(); err != nil {
			in.add(Fail, "config", "backend", words(err), "correct the backend in the config file")
			return false
		}
	}
	if !in.choosing() {
		in.add(OK, "token", "module", fmt.Sprintf("%d slots with a token; none was asked for by label or serial", len(in.Slots)), "")
	}
	return in.choosing()
}

// chooseToken finds the token that the config names among those of the report, or adds a
// finding and returns nil.
func (in *inspection) chooseToken(ctx context.Context, m *cryptoki.Module) *TokenReport {
	in.at(ctx, "find the token")
	slot, _, err := m.FindToken(in.cfg.token())
	if err != nil {
		in.add(Fail, "token", in.Target, words(err), "name one of the tokens that are there by label or serial, or make it (signetd hsm init)")
		return nil
	}

	i := slices.IndexFunc(in.Slots, func(s SlotReport) bool { return s.ID == slot && s.Token != nil })
	if i < 0 {
		in.add(Fail, "token", in.Target, "it came while the doctor looked", "run the doctor again")
		return nil
	}

	t := in.Slots[i].Token
	t.Chosen = true
	in.checkSessions(t)
	in.checkPIN(t)
	return t
}

// checkSessions reports a token with too few sessions: one keeps the login, and a reload
// opens those of the new configuration beside the old ones.
func (in *inspection) checkSessions(t *TokenReport) {
	if t.Sessions.Max == nil || *t.Sessions.Max == 0 {
		return
	}

	limit, use := *t.Sessions.Max, uint(t.Sessions.Configured) // #nosec G115 -- 1 to maxSessions
	switch {
	case limit < 2:
		in.add(Fail, "sessions", in.Target, fmt.Sprintf("it allows %d session, and signetd needs two: one stays logged in", limit), "raise the limit in the HSM")
	case uint(in.cfg.Sessions) >= limit: // #nosec G115 -- not negative: Open checks
		in.add(Warn, "sessions", in.Target, fmt.Sprintf("sessions is %d, and it allows %d, one of which stays logged in: %d are used", in.cfg.Sessions, limit, use), "lower sessions, or raise the limit in the HSM")
	case 2*use+1 > limit:
		in.add(Warn, "sessions", in.Target, fmt.Sprintf("it allows %d sessions, and a reload under load may want %d: %d of the old configuration, %d of the new, one that stays logged in", limit, 2*use+1, use, use),
			fmt.Sprintf("set sessions to %d or less, or raise the limit in the HSM", max((limit-1)/2, 1)))
	}

	if o := t.Sessions.Open; o != nil && *o+use+1 > limit {
		in.add(Warn, "sessions-busy", in.Target, fmt.Sprintf("%d of its %d sessions are open already, and signetd wants %d more", *o, limit, use+1), "see which programs hold them; a daemon that runs beside the doctor counts, too")
	}
}

// checkPIN reports what the token says about its PIN.
func (in *inspection) checkPIN(t *TokenReport) {
	switch pin := t.PIN; {
	case pin.Locked:
		in.add(Fail, "pin-locked", in.Target, "its user PIN is locked: none is tried", fixLocked)
	case pin.FinalTry:
		in.add(Fail, "pin-final-try", in.Target, "one more wrong PIN locks it: none is tried", "log in once with the vendor's tool and the right PIN, and put that PIN in pin_file")
	case !pin.Initialized:
		in.add(Fail, "pin-missing", in.Target, "its user PIN was never set", "have the security officer set it")
	case pin.CountLow:
		in.add(Warn, "pin-count-low", in.Target, "a wrong PIN was tried since the last login", "find out who tried it: a few more lock the token")
	}

	if t.PIN.ToBeChanged {
		in.add(Warn, "pin-to-be-changed", in.Target, "its user PIN is the one it was initialised with and must be changed", "change it with the vendor's tool, then in pin_file")
	}
}

// mayLogIn reports whether a login can be tried. If not, a finding says why.
func (in *inspection) mayLogIn(t *TokenReport) bool {
	if t.PIN.Locked || t.PIN.FinalTry || !t.PIN.Initialized {
		return false
	}
	if in.cfg.PINFile == "" {
		in.add(Warn, "login", in.Target, "no PIN file was given: there was no login, and no key was looked at", "give --pin-file, or a config file")
		return false
	}
	pin, err := ReadPIN(in.cfg.PINFile)
	clear(pin)
	if err != nil {
		in.add(Fail, "pin-file", in.Target, words(err), "make it a file with just the PIN, of mode 0600, that belongs to the user the daemon runs as")
		return false
	}
	return true
}

// useToken logs in and looks at the keys.
func (in *inspection) useToken(ctx context.Context, m *cryptoki.Module, t *TokenReport) {
	in.at(ctx, "log in")
	b, err := Open(ctx, in.cfg)

	if err != nil {
		in.Login.Error = words(err)
		fix := "if it is the PIN, correct " + in.cfg.PINFile + " before you try again: tokens count wrong ones, and lock"
		if cryptoki.Answered(err, p11.CKR_PIN_LOCKED) { // some tokens have no flag for it
			fix = fixLocked
		}
		in.add(Fail, "login", in.Target, words(err), fix)
		in.askPINAgain(ctx, m, t)
		return
	}

	in.Login.OK = true
	in.add(OK, "login", in.Target, "logged in with the PIN in "+in.cfg.PINFile, "")
	for _, k := range in.keys {
		in.at(ctx, fmt.Sprintf("look at key %q", k.Name))
		in.Keys = append(in.Keys, in.examine(ctx, b, k))
	}

	in.at(ctx, "log out")
	if err := b.Close(); err != nil {
		in.add(Warn, "logout", in.Target, words(err), "")
	}
}

// askPINAgain reports what a login that failed did to the state of the PIN.
func (in *inspection) askPINAgain(ctx context.Context, m *cryptoki.Module, t *TokenReport) {
	in.at(ctx, "ask the token for its PIN state")
	_, info, err := m.FindToken(in.cfg.token())
	if err != nil {
		return // the login's error says it all
	}
	t.PIN = in.describe(info).PIN
	if t.PIN.Locked || t.PIN.FinalTry {
		in.checkPIN(t)
	}
}
