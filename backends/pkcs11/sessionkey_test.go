//go:build cgo

package pkcs11

import (
	"bytes"
	"testing"
)

// TestSessionKey checks that sessionKey returns random bytes for each wrong form.
func TestSessionKey(t *testing.T) {
	em := func(change func(em []byte)) []byte {
		b := bytes.Repeat([]byte{7}, 256)
		b[0], b[1], b[256-33] = 0, 2, 0
		change(b)
		return b
	}
	random := bytes.Repeat([]byte{9}, 32)
	if got := sessionKey(em(func([]byte) {}), bytes.Clone(random)); !bytes.Equal(got, bytes.Repeat([]byte{7}, 32)) {
		t.Errorf("sessionKey() = %x", got)
	}

	for name, change := range map[string]func([]byte){
		"first byte": func(b []byte) { b[0] = 1 }, "second byte": func(b []byte) { b[1] = 1 }, "no separator": func(b []byte) { b[256-33] = 1 },
		"zero at the start of the padding": func(b []byte) { b[2] = 0 }, "zero at its end": func(b []byte) { b[256-34] = 0 }, "zero in it": func(b []byte) { b[99] = 0 },
	} {
		spoiled := em(change)
		if got := sessionKey(spoiled, bytes.Clone(random)); !bytes.Equal(got, random) {
			t.Errorf("sessionKey(%s) = %x, want the random bytes", name, got)
		}
		if !bytes.Equal(spoiled, make([]byte, 256)) {
			t.Errorf("sessionKey(%s) leaves the encoded message", name)
		}
	}
	if got := sessionKey(make([]byte, 42), bytes.Clone(random)); !bytes.Equal(got, random) {
		t.Errorf("sessionKey(short) = %x, want the random bytes", got)
	}
}
