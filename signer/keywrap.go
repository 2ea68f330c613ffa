package signer

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// WrapKey wraps key, a key of any kind, with v: with RSA-OAEP, or with AES key wrap in the
// given form. RSA-OAEP needs no private key and no form (0). A key that is too long for
// alg, or whose length the form does not allow, is ErrInvalid.
func (v *Version) WrapKey(ctx context.Context, alg Alg, form WrapForm, key []byte) ([]byte, error) {
	if err := v.wraps(alg, form); err != nil {
		return nil, err
	}

	if pub, ok := v.public.(*rsa.PublicKey); ok {
		if most := pub.Size() - 2*alg.Hash().Size() - 2; len(key) == 0 || len(key) > most { // RFC 8017 section 7.1.1
			return nil, fmt.Errorf("%w: %s with this key wraps 1 to %d bytes, not %d", ErrInvalid, alg, most, len(key))
		}
		return rsa.EncryptOAEPWithOptions(rand.Reader, pub, key, alg.DecrypterOpts())
	}

	if err := CheckWrap(form, key); err != nil {
		return nil, err
	}
	wrapped, err := v.wrap(ctx, form, key)
	if err != nil {
		return nil, fmt.Errorf("wrap: %w", err)
	}
	return wrapped, nil
}

// wrap wraps key with the secret of v.
func (v *Version) wrap(ctx context.Context, form WrapForm, key []byte) ([]byte, error) {
	return on(ctx, v, UseEnc, func(ctx context.Context, w Wrapper) ([]byte, error) {
		return w.WrapContext(ctx, form, key)
	}, nil)
}

// UnwrapKey undoes [Version.WrapKey]. The caller clears the key. Any error in wrapped is
// ErrDecrypt.
func (v *Version) UnwrapKey(ctx context.Context, alg Alg, form WrapForm, wrapped []byte) ([]byte, error) {
	if err := v.wraps(alg, form); err != nil {
		return nil, err
	}
	if alg.Family() == FamilyAESKW {
		return opened(ctx, v, func(ctx context.Context, w Wrapper) ([]byte, error) {
			return w.UnwrapContext(ctx, form, wrapped)
		})
	}
	return v.UnwrapCEK(ctx, WrappedCEK{Alg: alg, EncryptedKey: wrapped})
}

// wraps reports why v does not wrap with alg and form. RSA-OAEP has no form.
func (v *Version) wraps(alg Alg, form WrapForm) error {
	if _, err := v.Alg(alg); err != nil {
		return err
	}

	switch family := alg.Family(); {
	case family == FamilyOAEP && form != 0:
		return fmt.Errorf("%w: form: must be left out for %s", ErrInvalid, alg)
	case family == FamilyAESKW && form != WrapRFC3394 && form != WrapRFC5649:
		return fmt.Errorf("%w: form: is not a form of AES key wrap", ErrInvalid)
	case family != FamilyOAEP && family != FamilyAESKW:
		return fmt.Errorf("%w: %s only wraps the content key of a JWE", ErrUnsupported, alg)
	}
	return nil
}

// A sealed is what an [AEAD] returns.
type sealed struct {
	iv   []byte
	text []byte // the ciphertext, followed by the tag
}

// seal encrypts plaintext with the secret of v.
func (v *Version) seal(ctx context.Context, plaintext, aad []byte) (sealed, error) {
	return on(ctx, v, UseEnc, func(ctx context.Context, a AEAD) (s sealed, err error) {
		s.iv, s.text, err = a.SealContext(ctx, plaintext, aad)
		return s, err
	}, nil)
}

// splitTag splits what an [AEAD] sealed.
func splitTag(sealed []byte) (ciphertext, tag []byte, err error) {
	n := len(sealed) - GCMTagSize
	if n < 0 {
		return nil, nil, errors.New("the backend sealed less than a tag")
	}
	return sealed[:n], sealed[n:], nil
}

// The first eight bytes of what is wrapped: RFC 3394 section 2.2.3.1, and RFC 5649 section
// 3, where the length in bytes follows in four more.
var (
	wrapIV       = [8]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}
	wrapPaddedIV = [4]byte{0xa6, 0x59, 0x59, 0xa6}
)

// WrapBlocks wraps a key that [CheckWrap] has accepted, for hardware that has AES but no
// key wrap. encrypt is AES on one block of 16 bytes, in place. Errors are those of encrypt.
func WrapBlocks(form WrapForm, key []byte, encrypt func(block []byte) error) ([]byte, error) {
	if form == WrapRFC3394 {
		return wrapRounds(wrapIV, key, encrypt)
	}

	var a [8]byte
	copy(a[:], wrapPaddedIV[:])
	binary.BigEndian.PutUint32(a[4:], uint32(len(key))) // #nosec G115 -- CheckWrap bounds it
	padded := make([]byte, (len(key)+7)/8*8)
	defer clear(padded)
	copy(padded, key)
	if len(padded) > 8 {
		return wrapRounds(a, padded, encrypt)
	}

	block := append(a[:], padded...) // RFC 5649 section 4.1: 8 bytes or fewer are one block
	if err := encrypt(block); err != nil {
		clear(block)
		return nil, err
	}
	return block, nil
}

// UnwrapBlocks undoes [WrapBlocks] for what [CheckWrapped] has accepted, with decrypt as
// AES. A wrong key or wrapped is ErrDecrypt; other errors are those of decrypt.
func UnwrapBlocks(form WrapForm, wrapped []byte, decrypt func(block []byte) error) ([]byte, error) {
	a, key, err := unwrapRounds(wrapped, decrypt)
	if err != nil {
		return nil, err
	}

	// How much of the check was right must not show in the time that it takes.
	size, good := len(key), subtle.ConstantTimeCompare(a[:], wrapIV[:])
	if form == WrapRFC5649 {
		size, good = unpad(a, key)
	}
	if good != 1 {
		clear(key)
		return nil, ErrDecrypt
	}
	return key[:size], nil
}

// unpad checks what RFC 5649 section 3 puts round a key, in constant time: good is 1 if all
// of it is right.
func unpad(a [8]byte, padded []byte) (size, good int) {
	n := binary.BigEndian.Uint32(a[4:])
	size = int(n & 0x7fffffff) // package subtle compares 31 bits
	good = subtle.ConstantTimeCompare(a[:4], wrapPaddedIV[:]) & subtle.ConstantTimeEq(int32(n>>31), 0)
	good &= subtle.ConstantTimeLessOrEq(len(padded)-7, size) & subtle.ConstantTimeLessOrEq(size, len(padded))
	for at := len(padded) - 8; at < len(padded); at++ { // the padding is in the last eight bytes
		beyond := subtle.ConstantTimeLessOrEq(size, at)
		good &= 1 ^ (beyond & (1 ^ subtle.ConstantTimeByteEq(padded[at], 0)))
	}
	return size, good
}

// wrapRounds is the process of RFC 3394 section 2.2.1 with a as the initial value.
func wrapRounds(a [8]byte, key []byte, encrypt func([]byte) error) ([]byte, error) {
	out := make([]byte, 8+len(key))
	copy(out[8:], key)
	var block [16]byte
	defer clear(block[:])
	copy(block[:8], a[:])

	n := len(key) / 8
	for t := range 6 * n {
		r := out[8+8*(t%n):][:8]
		copy(block[8:], r)
		if err := encrypt(block[:]); err != nil {
			clear(out)
			return nil, err
		}
		count(block[:8], t+1)
		copy(r, block[8:])
	}
	copy(out, block[:8])
	return out, nil
}

// unwrapRounds is the process of RFC 3394 section 2.2.2, without the check of a. A single
// block is what RFC 5649 section 4.2 makes of 8 bytes or fewer.
func unwrapRounds(wrapped []byte, decrypt func([]byte) error) (a [8]byte, key []byte, err error) {
	key = append([]byte(nil), wrapped[8:]...)
	var block [16]byte
	defer clear(block[:])
	copy(block[:8], wrapped)

	n := len(key) / 8
	steps := 6 * n
	if n == 1 {
		steps = 1
	}
	for t := steps; t > 0; t-- {
		r := key[8*((t-1)%n):][:8]
		if n > 1 {
			count(block[:8], t)
		}
		copy(block[8:], r)
		if err := decrypt(block[:]); err != nil {
			clear(key)
			return a, nil, err
		}
		copy(r, block[8:])
	}
	copy(a[:], block[:8])
	return a, key, nil
}

// count XORs a with the number of the step.
func count(a []byte, t int) {
	binary.BigEndian.PutUint64(a, binary.BigEndian.Uint64(a)^uint64(t)) // #nosec G115 -- t is positive
}
