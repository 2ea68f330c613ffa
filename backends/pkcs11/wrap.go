//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// ckmKeyWrapKWP is CKM_AES_KEY_WRAP_KWP of PKCS#11 v3.0 section 2.14, for which
// the binding has no name.
const ckmKeyWrapKWP = 0x210b

// A wrapping is how a token wraps keys in one form, and unwraps them.
type wrapping struct {
	wrap, unwrap wrapWay
	sample       []byte // a key that it wrapped when it was opened
}

// A wrapWay is how a token does one direction of key wrap.
type wrapWay struct {
	how       wrapHow
	mechanism uint
	access    access // to the unwrapped key
}

type wrapHow int

const (
	byCipher wrapHow = iota + 1 // C_Encrypt or C_Decrypt with the mechanism, as NSS has it
	byObject                    // C_WrapKey of a session object, or C_UnwrapKey to one, which is read
	byBlocks                    // RFC 3394 and 5649 done here, with CKM_AES_ECB for each block
)

// String says how the token does it.
func (w wrapWay) String() string {
	switch name := mechanismName(uint64(w.mechanism)); w.how {
	case byCipher:
		return "C_Encrypt and C_Decrypt with " + name
	case byObject:
		return "C_WrapKey and C_UnwrapKey with " + name
	case byBlocks:
		return "CKM_AES_ECB; key wrap done here, block by block"
	}
	return ""
}

// keyWrapping is the half of a key that implements signer.Wrapper.
type keyWrapping struct{ k *key }

// WrapContext wraps a key; see [signer.Wrapper].
func (w keyWrapping) WrapContext(ctx context.Context, form signer.WrapForm, value []byte) ([]byte, error) {
	if err := signer.CheckWrap(form, value); err != nil {
		return nil, err
	}
	way, err := w.k.wrapping(form)
	if err != nil {
		return nil, err
	}
	value = bytes.Clone(value) // the token may read it after the caller has left
	wrapped, err := w.k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return w.k.wrapKey(s, h, form, way.wrap, value)
	})
	if err == nil || ctx.Err() == nil { // else a call may still read it
		clear(value)
	}
	return wrapped, err
}

// UnwrapContext unwraps a key; see [signer.Wrapper].
func (w keyWrapping) UnwrapContext(ctx context.Context, form signer.WrapForm, wrapped []byte) ([]byte, error) {
	if err := signer.CheckWrapped(form, wrapped); err != nil {
		return nil, err
	}
	way, err := w.k.wrapping(form)
	if err != nil {
		return nil, err
	}
	wrapped = bytes.Clone(wrapped)
	return w.k.use(ctx, func(s *session, h p11.ObjectHandle) ([]byte, error) {
		return w.k.unwrapKey(s, h, form, way, wrapped)
	})
}

func (k *key) wrapping(form signer.WrapForm) (wrapping, error) {
	w, ok := k.wraps[form]
	if !ok {
		return w, fmt.Errorf("%w: the token does not wrap with this key in form %d", signer.ErrUnsupported, form)
	}
	return w, nil
}

func (k *key) wrapKey(s *session, h p11.ObjectHandle, form signer.WrapForm, w wrapWay, value []byte) ([]byte, error) {
	if w.how == byBlocks {
		return signer.WrapBlocks(form, value, func(block []byte) error { return k.block(h, s.seal, block) })
	}
	want := (len(value)+7)/8*8 + 8
	out := make([]byte, want+16) // room for what another form would make
	n, err := k.withPIN(func(pin []byte) (int, error) {
		if w.how == byObject {
			return s.wrap(mechanism{typ: w.mechanism}, h, value, out)
		}
		return s.seal(mechanism{typ: w.mechanism}, h, pin, gcm{}, value, out)
	})
	if err != nil {
		return nil, err
	}
	return exactly(out, n, want)
}

func (k *key) unwrapKey(s *session, h p11.ObjectHandle, form signer.WrapForm, way wrapping, wrapped []byte) ([]byte, error) {
	w := way.unwrap
	if w.how == byBlocks {
		return signer.UnwrapBlocks(form, wrapped, func(block []byte) error { return k.block(h, s.open, block) })
	}
	out := make([]byte, len(wrapped)) // tokens want more than the key needs
	n, err := k.withPIN(func(pin []byte) (int, error) {
		if w.how == byObject {
			return s.unwrap(mechanism{typ: w.mechanism}, h, object{access: w.access}, wrapped, out)
		}
		return s.decrypt(mechanism{typ: w.mechanism}, h, pin, wrapped, out)
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

// A cipherCall is the session's seal or open.
type cipherCall func(m mechanism, key p11.ObjectHandle, pin []byte, g gcm, in, out []byte) (int, error)

// block encrypts or decrypts a block of 16 bytes in place.
func (k *key) block(h p11.ObjectHandle, call cipherCall, block []byte) error {
	var out [16]byte
	defer clear(out[:])
	n, err := k.withPIN(func(pin []byte) (int, error) {
		return call(mechanism{typ: p11.CKM_AES_ECB}, h, pin, gcm{}, block, out[:])
	})
	if err == nil && n != len(block) {
		err = fmt.Errorf("%w: pkcs11: the token made a block of %d bytes", signer.ErrUnavailable, n)
	}
	if err == nil {
		copy(block, out[:])
	}
	return err
}

// wrapMechanisms are those of each form. CKM_AES_KEY_WRAP_PAD is RFC 5649 in some
// tokens and something else in others.
var wrapMechanisms = map[signer.WrapForm][]uint{
	signer.WrapRFC3394: {p11.CKM_AES_KEY_WRAP},
	signer.WrapRFC5649: {ckmKeyWrapKWP, p11.CKM_AES_KEY_WRAP_PAD},
}

// proveWrapping finds for each form a way in which the token wraps keys, and one
// in which it unwraps them again. An error says why there is none for RFC 3394.
func (k *key) proveWrapping(t *trial) (map[signer.WrapForm]wrapping, error) {
	found := make(map[signer.WrapForm]wrapping)
	for _, form := range []signer.WrapForm{signer.WrapRFC3394, signer.WrapRFC5649} {
		w, err := k.tryWrapping(t, form)
		switch {
		case err == nil:
			found[form] = w
		case form == signer.WrapRFC3394 || final(err):
			return nil, err
		}
	}
	return found, nil
}

// tryWrapping tries each way to wrap with each way to unwrap. A way that is right in
// one direction may be wrong in the other: SoftHSM2 unwraps by RFC 5649, and pads
// what it wraps before it comes to that.
func (k *key) tryWrapping(t *trial, form signer.WrapForm) (wrapping, error) {
	keys := [][]byte{proofKey()} // whose wrapped length is another in other forms with padding
	if form == signer.WrapRFC5649 {
		keys = append(keys, proofKey()[:21])
	}
	refusals := []error{fmt.Errorf("%w: no way to wrap keys and to unwrap them", signer.ErrUnsupported)}
	for _, wrap := range k.waysToWrap(form) {
		wrapped, err := k.wrapAll(t, form, wrap, keys)
		if final(err) {
			return wrapping{}, err
		}
		if err != nil {
			refusals = append(refusals, fmt.Errorf("wrap by %v: %w", wrap, err))
			continue
		}
		for _, unwrap := range k.waysToUnwrap(form) {
			w := wrapping{wrap, unwrap, wrapped[0]}
			err := k.unwrapAll(t, form, w, wrapped, keys)
			if err == nil || final(err) {
				return w, err
			}
			refusals = append(refusals, fmt.Errorf("unwrap by %v: %w", unwrap, err))
		}
	}
	return wrapping{}, errors.Join(refusals...)
}

func (k *key) wrapAll(t *trial, form signer.WrapForm, way wrapWay, keys [][]byte) (wrapped [][]byte, err error) {
	for _, key := range keys {
		err := t.run(func(s *session, h p11.ObjectHandle) error {
			w, err := k.wrapKey(s, h, form, way, key)
			wrapped = append(wrapped, w)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return wrapped, nil
}

func (k *key) unwrapAll(t *trial, form signer.WrapForm, w wrapping, wrapped, keys [][]byte) error {
	for i := range wrapped {
		err := t.run(func(s *session, h p11.ObjectHandle) error {
			got, err := k.unwrapKey(s, h, form, w, wrapped[i])
			if err == nil && !bytes.Equal(got, keys[i]) {
				err = fmt.Errorf("%w: it unwraps to something else", signer.ErrUnsupported)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *key) waysToWrap(form signer.WrapForm) (ways []wrapWay) {
	for _, m := range wrapMechanisms[form] {
		if k.may.encrypt {
			ways = append(ways, wrapWay{how: byCipher, mechanism: m})
		}
		if k.may.wrap {
			ways = append(ways, wrapWay{how: byObject, mechanism: m})
		}
	}
	if k.may.encrypt {
		ways = append(ways, wrapWay{how: byBlocks})
	}
	return ways
}

func (k *key) waysToUnwrap(form signer.WrapForm) (ways []wrapWay) {
	for _, m := range wrapMechanisms[form] {
		if k.may.decrypt {
			ways = append(ways, wrapWay{how: byCipher, mechanism: m})
		}
		if k.may.unwrap {
			ways = append(ways, wrapWay{byObject, m, readable}, wrapWay{byObject, m, unsaid})
		}
	}
	if k.may.decrypt {
		ways = append(ways, wrapWay{how: byBlocks})
	}
	return ways
}
