//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/signer"
)

// wrapping is a key that implements signer.Wrapper.
type wrapping struct{ *key }

var _ signer.Wrapper = wrapping{}

// WrapContext wraps a key; see [signer.Wrapper].
func (w wrapping) WrapContext(ctx context.Context, form signer.WrapForm, value []byte) ([]byte, error) {
	if err := signer.CheckWrap(form, value); err != nil {
		return nil, err
	}
	strategy, err := w.strategy(form)
	if err != nil {
		return nil, err
	}

	value = bytes.Clone(value) // the token may read it after the caller has left
	wrapped, err := w.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return w.wrapKey(s, h, form, strategy.wrap, value)
	})
	if err == nil || ctx.Err() == nil { // else a call may still read it
		clear(value)
	}
	return wrapped, err
}

// UnwrapContext unwraps a key; see [signer.Wrapper].
func (w wrapping) UnwrapContext(ctx context.Context, form signer.WrapForm, wrapped []byte) ([]byte, error) {
	if err := signer.CheckWrapped(form, wrapped); err != nil {
		return nil, err
	}
	strategy, err := w.strategy(form)
	if err != nil {
		return nil, err
	}

	wrapped = bytes.Clone(wrapped)
	return w.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return w.unwrapKey(s, h, form, strategy.unwrap, wrapped)
	})
}

func (w wrapping) strategy(form signer.WrapForm) (wrapStrategy, error) {
	strategy, ok := w.wraps[form]
	if !ok {
		return strategy, fmt.Errorf("%w: the token does not wrap with this key in form %d", signer.ErrUnsupported, form)
	}
	return strategy, nil
}

func (k *key) wrapKey(s *session, h p11.ObjectHandle, form signer.WrapForm, w wrapStep, value []byte) ([]byte, error) {
	if w.how == wrapByBlocks {
		return signer.WrapBlocks(form, value, func(block []byte) error { return k.block(h, s.Seal, block) })
	}

	want := (len(value)+7)/8*8 + 8
	out := make([]byte, want+16) // room for what another form would make
	n, err := k.withPIN(func(pin []byte) (int, error) {
		if w.how == wrapByObject {
			return s.Wrap(cryptoki.NewMechanism(w.mechanism), h, value, out)
		}
		return s.Seal(cryptoki.NewMechanism(w.mechanism), h, pin, cryptoki.GCM{}, value, out)
	})
	if err != nil {
		return nil, err
	}
	return exactly(out, n, want)
}

func (k *key) unwrapKey(s *session, h p11.ObjectHandle, form signer.WrapForm, w wrapStep, wrapped []byte) ([]byte, error) {
	if w.how == wrapByBlocks {
		return signer.UnwrapBlocks(form, wrapped, func(block []byte) error { return k.block(h, s.Open, block) })
	}

	out := make([]byte, len(wrapped)) // tokens want more than the key needs
	n, err := k.withPIN(func(pin []byte) (int, error) {
		if w.how == wrapByObject {
			return s.Unwrap(cryptoki.NewMechanism(w.mechanism), h, cryptoki.Object{Access: w.access}, wrapped, out)
		}
		return s.Decrypt(cryptoki.NewMechanism(w.mechanism), h, pin, wrapped, out)
	})
	switch {
	case err != nil:
		return nil, err
	case form == signer.WrapRFC3394:
		return exactly(out, n, len(wrapped)-8)
	default:
		return out[:n], nil
	}
}

// A cipherCall is [cryptoki.Session.Seal] or [cryptoki.Session.Open].
type cipherCall func(m cryptoki.Mechanism, key p11.ObjectHandle, pin []byte, g cryptoki.GCM, in, out []byte) (int, error)

// block encrypts or decrypts a block of 16 bytes in place.
func (k *key) block(h p11.ObjectHandle, call cipherCall, block []byte) error {
	var out [16]byte
	defer clear(out[:])
	n, err := k.withPIN(func(pin []byte) (int, error) {
		return call(cryptoki.NewMechanism(p11.CKM_AES_ECB), h, pin, cryptoki.GCM{}, block, out[:])
	})
	if err == nil && n != len(block) {
		err = fmt.Errorf("%w: pkcs11: the token made a block of %d bytes", signer.ErrUnavailable, n)
	}
	if err == nil {
		copy(block, out[:])
	}
	return err
}

// wrapMechanisms are the mechanisms of each form, in the order in which they are tried.
// CKM_AES_KEY_WRAP_PAD is RFC 5649 in some tokens and something else in others.
var wrapMechanisms = map[signer.WrapForm][]uint{
	signer.WrapRFC3394: {p11.CKM_AES_KEY_WRAP},
	signer.WrapRFC5649: {cryptoki.AESKeyWrapKWP, p11.CKM_AES_KEY_WRAP_PAD},
}

// probeWrapping finds for each form how the token wraps keys and unwraps them again. It
// returns an error if it finds nothing for RFC 3394, which JOSE has.
func (k *key) probeWrapping(p *probe) error {
	found := make(map[signer.WrapForm]wrapStrategy)

	for _, form := range []signer.WrapForm{signer.WrapRFC3394, signer.WrapRFC5649} {
		strategy, wrapped, err := k.probeForm(p, form)
		switch {
		case err != nil && (form == signer.WrapRFC3394 || final(err)):
			return err
		case err != nil:
			continue
		case form == signer.WrapRFC3394:
			k.addAlgs(signer.FamilyAESKW)
			k.sameSecret = undoes(func(s *session, h p11.ObjectHandle) ([]byte, error) {
				return k.unwrapKey(s, h, form, strategy.unwrap, wrapped)
			})
		}
		found[form] = strategy
	}

	k.wraps = found
	return nil
}

// probeForm tries each way to wrap with each way to unwrap, and returns a key that was
// wrapped, too. A token may be right in one direction and wrong in the other: SoftHSM2
// unwraps by RFC 5649, and adds a padding of its own to what it wraps.
func (k *key) probeForm(p *probe, form signer.WrapForm) (wrapStrategy, []byte, error) {
	keys := [][]byte{probeSecret()}
	if form == signer.WrapRFC5649 {
		keys = append(keys, probeSecret()[:21]) // its wrapped length is another in other forms with padding
	}

	refusals := []error{fmt.Errorf("%w: no way to wrap keys and to unwrap them", signer.ErrUnsupported)}
	for _, wrap := range k.wrapSteps(form) {
		wrapped := make([][]byte, len(keys))
		err := p.run(func(s *session, h p11.ObjectHandle) (err error) {
			for i := 0; i < len(keys) && err == nil; i++ {
				wrapped[i], err = k.wrapKey(s, h, form, wrap, keys[i])
			}
			return err
		})
		if final(err) {
			return wrapStrategy{}, nil, err
		}
		if err != nil {
			refusals = append(refusals, fmt.Errorf("wrap by %v: %w", wrap, err))
			continue
		}

		for _, unwrap := range k.unwrapSteps(form) {
			err := p.run(func(s *session, h p11.ObjectHandle) error {
				for i := range wrapped {
					got, err := k.unwrapKey(s, h, form, unwrap, wrapped[i])
					if err == nil && !bytes.Equal(got, keys[i]) {
						err = fmt.Errorf("%w: it unwraps to something else", signer.ErrUnsupported)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil || final(err) {
				return wrapStrategy{wrap, unwrap}, wrapped[0], err
			}
			refusals = append(refusals, fmt.Errorf("unwrap by %v: %w", unwrap, err))
		}
	}
	return wrapStrategy{}, nil, errors.Join(refusals...)
}

// wrapSteps are the ways to wrap that the key's attributes allow.
func (k *key) wrapSteps(form signer.WrapForm) (steps []wrapStep) {
	for _, m := range wrapMechanisms[form] {
		if k.may.encrypt {
			steps = append(steps, wrapStep{how: wrapByCipher, mechanism: m})
		}
		if k.may.wrap {
			steps = append(steps, wrapStep{how: wrapByObject, mechanism: m})
		}
	}
	if k.may.encrypt {
		steps = append(steps, wrapStep{how: wrapByBlocks})
	}
	return steps
}

// unwrapSteps are the ways to unwrap that the key's attributes allow.
func (k *key) unwrapSteps(form signer.WrapForm) (steps []wrapStep) {
	for _, m := range wrapMechanisms[form] {
		if k.may.decrypt {
			steps = append(steps, wrapStep{how: wrapByCipher, mechanism: m})
		}
		if k.may.unwrap {
			steps = append(steps, wrapStep{wrapByObject, m, cryptoki.Readable}, wrapStep{wrapByObject, m, cryptoki.Unspecified})
		}
	}
	if k.may.decrypt {
		steps = append(steps, wrapStep{how: wrapByBlocks})
	}
	return steps
}
