//go:build cgo

package provision

import (
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
)

// InitToken initialises the first token that is not initialised yet, sets both PINs, and
// returns its serial number. It refuses if another token has the label already, and never
// touches a token that is initialised.
func InitToken(o InitOptions) (serial string, err error) {
	if err := o.check(); err != nil {
		return "", err
	}
	err = withModule(o.Module, func(ctx *p11.Ctx) error {
		serial, err = initToken(ctx, o)
		return err
	})
	return serial, err
}

func initToken(ctx *p11.Ctx, o InitOptions) (serial string, err error) {
	slot, err := freeSlot(ctx, o.Label)
	if err != nil {
		return "", err
	}

	// The PINs are checked before the token is touched: a token whose user PIN cannot be
	// set is of no use.
	info, err := ctx.GetTokenInfo(slot)
	if err != nil {
		return "", fmt.Errorf("C_GetTokenInfo: %w", err)
	}
	for _, pin := range [][]byte{o.SOPIN, o.PIN} {
		if n := uint(len(pin)); n < info.MinPinLen || info.MaxPinLen > 0 && n > info.MaxPinLen {
			return "", fmt.Errorf("%w: the token takes PINs of %d to %d bytes, not %d", signer.ErrInvalid, info.MinPinLen, info.MaxPinLen, n)
		}
	}

	if err := ctx.InitToken(slot, string(o.SOPIN), o.Label); err != nil {
		return "", fmt.Errorf("C_InitToken: %w", err)
	}

	// Looked for again: some modules give the slot another number now.
	found, err := findTokens(ctx, o.Label, "")
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%w: after C_InitToken %d tokens have the label %q", signer.ErrUnavailable, len(found), o.Label)
	}
	if err := setPIN(ctx, found[0].slot, o); err != nil {
		return "", err
	}
	return found[0].SerialNumber, nil
}

// setPIN sets the user's PIN as the security officer.
func setPIN(ctx *p11.Ctx, slot uint, o InitOptions) (err error) {
	s, err := ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("C_OpenSession: %w", err)
	}
	defer func() { err = errors.Join(err, ctx.CloseSession(s)) }()

	if err := ctx.Login(s, p11.CKU_SO, string(o.SOPIN)); err != nil {
		return fmt.Errorf("C_Login as the security officer: %w", err)
	}
	defer func() { err = errors.Join(err, ctx.Logout(s)) }()

	if err := ctx.InitPIN(s, string(o.PIN)); err != nil {
		return fmt.Errorf("C_InitPIN: %w", err)
	}
	return nil
}

// freeSlot returns the first slot whose token is not initialised.
func freeSlot(ctx *p11.Ctx, label string) (uint, error) {
	same, err := findTokens(ctx, label, "")
	if err != nil {
		return 0, err
	}
	if len(same) > 0 {
		return 0, fmt.Errorf("%w: there is a token with the label %q already", signer.ErrInvalid, label)
	}

	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("C_GetSlotList: %w", err)
	}
	for _, s := range slots {
		if info, err := ctx.GetTokenInfo(s); err == nil && info.Flags&p11.CKF_TOKEN_INITIALIZED == 0 {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%w: no slot has a token that is not initialised yet", signer.ErrNotFound)
}

// A token is an initialised token and its slot.
type token struct {
	p11.TokenInfo
	slot uint
}

// findTokens returns the initialised tokens with the label and the serial number, either of
// which may be empty to match any. Slots that do not answer are left out.
func findTokens(ctx *p11.Ctx, label, serial string) ([]token, error) {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return nil, fmt.Errorf("C_GetSlotList: %w", err)
	}

	var found []token
	for _, s := range slots {
		info, err := ctx.GetTokenInfo(s)
		if err != nil || info.Flags&p11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		if (label == "" || info.Label == label) && (serial == "" || info.SerialNumber == serial) {
			found = append(found, token{info, s})
		}
	}
	return found, nil
}

// oneToken returns the only token that [findTokens] finds.
func oneToken(ctx *p11.Ctx, label, serial string) (token, error) {
	found, err := findTokens(ctx, label, serial)
	switch {
	case err != nil:
		return token{}, err
	case len(found) == 0:
		return token{}, fmt.Errorf("%w: no token with label %q and serial %q", signer.ErrNotFound, label, serial)
	case len(found) > 1:
		return token{}, fmt.Errorf("%w: %d tokens with label %q and serial %q: name one by its serial", signer.ErrInvalid, len(found), label, serial)
	}
	return found[0], nil
}

// withModule runs f while the module is initialised.
func withModule(path string, f func(*p11.Ctx) error) (err error) {
	ctx, err := load(path)
	if err != nil {
		return err
	}
	if err := ctx.Initialize(); err != nil {
		return fmt.Errorf("%w: C_Initialize: %w", signer.ErrUnavailable, err)
	}
	defer func() { err = errors.Join(err, ctx.Finalize()) }()
	return f(ctx)
}

// load loads the module. It is never unloaded: some modules crash, and the process ends
// soon anyway.
func load(path string) (*p11.Ctx, error) {
	if err := cryptoki.CheckModule(path); err != nil {
		return nil, err
	}
	ctx := p11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("%w: pkcs11 module %s: the dynamic loader refuses it: a library that it needs may be missing (see ldd)", signer.ErrUnavailable, path)
	}
	return ctx, nil
}
