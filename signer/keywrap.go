package signer

import (
	"crypto/subtle"
	"encoding/binary"
)

// The first eight bytes of what is wrapped: RFC 3394 section 2.2.3.1, and RFC 5649
// section 3, which the length in bytes follows.
var (
	wrapIV       = [8]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}
	wrapPaddedIV = [4]byte{0xa6, 0x59, 0x59, 0xa6}
)

// WrapBlocks wraps a key that [CheckWrap] let through, with encrypt as AES on one
// block of 16 bytes, in place. Its errors are those of encrypt.
func WrapBlocks(form WrapForm, key []byte, encrypt func(block []byte) error) ([]byte, error) {
	if form == WrapRFC3394 {
		return wrap(wrapIV, key, encrypt)
	}
	var a [8]byte
	copy(a[:], wrapPaddedIV[:])
	binary.BigEndian.PutUint32(a[4:], uint32(len(key))) // #nosec G115 -- CheckWrap bounds it
	padded := make([]byte, (len(key)+7)/8*8)
	defer clear(padded)
	copy(padded, key)
	if len(padded) > 8 {
		return wrap(a, padded, encrypt)
	}
	block := append(a[:], padded...)
	if err := encrypt(block); err != nil {
		clear(block)
		return nil, err
	}
	return block, nil
}

// UnwrapBlocks undoes [WrapBlocks] for what [CheckWrapped] let through, with
// decrypt as AES. A wrong key or wrapped is ErrDecrypt; other errors are those of
// decrypt.
func UnwrapBlocks(form WrapForm, wrapped []byte, decrypt func(block []byte) error) ([]byte, error) {
	a, key, err := unwrap(wrapped, decrypt)
	if err != nil {
		return nil, err
	}
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

// unpad checks what RFC 5649 section 3 puts round a key: good is 1 if it is right.
func unpad(a [8]byte, padded []byte) (size, good int) {
	n := binary.BigEndian.Uint32(a[4:])
	size = int(n & 0x7fffffff) // what package subtle compares
	good = subtle.ConstantTimeCompare(a[:4], wrapPaddedIV[:]) & subtle.ConstantTimeEq(int32(n>>31), 0)
	good &= subtle.ConstantTimeLessOrEq(len(padded)-7, size) & subtle.ConstantTimeLessOrEq(size, len(padded))
	for at := len(padded) - 8; at < len(padded); at++ { // the padding is in the last eight bytes
		beyond := subtle.ConstantTimeLessOrEq(size, at)
		good &= 1 ^ (beyond & (1 ^ subtle.ConstantTimeByteEq(padded[at], 0)))
	}
	return size, good
}

// wrap is the process of RFC 3394 section 2.2.1 with a as the initial value.
func wrap(a [8]byte, key []byte, encrypt func([]byte) error) ([]byte, error) {
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

// unwrap is the process of RFC 3394 section 2.2.2, without the check of a. A
// single block is what RFC 5649 section 4.2 makes of 8 bytes or fewer.
func unwrap(wrapped []byte, decrypt func([]byte) error) (a [8]byte, key []byte, err error) {
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
