package signer_test

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"testing"

	josecipher "github.com/go-jose/go-jose/v4/cipher"

	"signetd/signer"
)

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// blocks returns AES with kek as the two functions want it.
func blocks(t *testing.T, kek []byte) (encrypt, decrypt func([]byte) error) {
	t.Helper()
	b, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	return func(x []byte) error { b.Encrypt(x, x); return nil }, func(x []byte) error { b.Decrypt(x, x); return nil }
}

// TestWrapBlocksVectors are those of RFC 3394 section 4 and RFC 5649 section 6.
func TestWrapBlocksVectors(t *testing.T) {
	tests := []struct {
		form              signer.WrapForm
		kek, key, wrapped string
	}{
		{signer.WrapRFC3394, "000102030405060708090A0B0C0D0E0F", "00112233445566778899AABBCCDDEEFF", "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"},
		{signer.WrapRFC3394, "000102030405060708090A0B0C0D0E0F1011121314151617", "00112233445566778899AABBCCDDEEFF0001020304050607", "031D33264E15D33268F24EC260743EDCE1C6C7DDEE725A936BA814915C6762D2"},
		{signer.WrapRFC3394, "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F", "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F", "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"},
		{signer.WrapRFC5649, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "c37b7e6492584340bed12207808941155068f738", "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		{signer.WrapRFC5649, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
	}

	for _, tt := range tests {
		encrypt, decrypt := blocks(t, unhex(t, tt.kek))
		key, wrapped := unhex(t, tt.key), unhex(t, tt.wrapped)
		if got, err := signer.WrapBlocks(tt.form, key, encrypt); err != nil || !bytes.Equal(got, wrapped) {
			t.Errorf("WrapBlocks(%s) = %x, %v; want %s", tt.key, got, err, tt.wrapped)
		}
		if got, err := signer.UnwrapBlocks(tt.form, wrapped, decrypt); err != nil || !bytes.Equal(got, key) {
			t.Errorf("UnwrapBlocks(%s) = %x, %v; want %s", tt.wrapped, got, err, tt.key)
		}
	}
}

// TestWrapBlocksGoJose wraps keys of many lengths as go-jose does.
func TestWrapBlocksGoJose(t *testing.T) {
	kek := make([]byte, 32)
	rand.Read(kek)
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	encrypt, decrypt := blocks(t, kek)
	for n := 16; n <= 256; n += 8 {
		key := make([]byte, n)
		rand.Read(key)
		want, err := josecipher.KeyWrap(block, key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := signer.WrapBlocks(signer.WrapRFC3394, key, encrypt); err != nil || !bytes.Equal(got, want) {
			t.Errorf("WrapBlocks(%d bytes) = %x, %v; want %x", n, got, err, want)
		}
		if got, err := signer.UnwrapBlocks(signer.WrapRFC3394, want, decrypt); err != nil || !bytes.Equal(got, key) {
			t.Errorf("UnwrapBlocks(%d bytes) = %x, %v; want %x", n, got, err, key)
		}
	}
}

// TestUnwrapBlocksRefuses gives UnwrapBlocks what no WrapBlocks made: lengths and
// padding that do not fit, wrapped with the right key.
func TestUnwrapBlocksRefuses(t *testing.T) {
	encrypt, decrypt := blocks(t, make([]byte, 16))
	wrapRaw := func(first, rest []byte) []byte { // RFC 3394 with another initial value
		out := append(bytes.Clone(first), rest...)
		if len(rest) == 8 {
			if err := encrypt(out); err != nil {
				t.Fatal(err)
			}
			return out
		}
		n := len(rest) / 8
		for step := range 6 * n {
			b := append(bytes.Clone(out[:8]), out[8+8*(step%n):][:8]...)
			if err := encrypt(b); err != nil {
				t.Fatal(err)
			}
			b[7] ^= byte(step + 1)
			copy(out, b[:8])
			copy(out[8+8*(step%n):], b[8:])
		}
		return out
	}

	size := func(n uint32) []byte {
		return []byte{0xa6, 0x59, 0x59, 0xa6, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	}
	zeros, ones := make([]byte, 16), bytes.Repeat([]byte{1}, 16)
	if got, err := signer.UnwrapBlocks(signer.WrapRFC5649, wrapRaw(size(9), append(ones[:9:9], zeros[:7]...)), decrypt); err != nil || len(got) != 9 {
		t.Fatalf("UnwrapBlocks() of what is right = %x, %v", got, err)
	}

	for name, bad := range map[string][]byte{
		"size 0": wrapRaw(size(0), zeros), "size 8 of 16": wrapRaw(size(8), zeros), "size 17 of 16": wrapRaw(size(17), zeros),
		"size 2^31": wrapRaw(size(1<<31), zeros), "size 2^31+16": wrapRaw(size(1<<31+16), zeros), "size 2^32-1": wrapRaw(size(1<<32-1), zeros),
		"padding of ones": wrapRaw(size(9), ones), "padding of one 1": wrapRaw(size(15), ones),
		"one block, size 9": wrapRaw(size(9), zeros[:8]), "one block, size 0": wrapRaw(size(0), zeros[:8]), "one block, padding of ones": wrapRaw(size(3), ones[:8]),
		"form of RFC 3394": wrapRaw(bytes.Repeat([]byte{0xa6}, 8), zeros),
	} {
		if got, err := signer.UnwrapBlocks(signer.WrapRFC5649, bad, decrypt); !errors.Is(err, signer.ErrDecrypt) || got != nil {
			t.Errorf("UnwrapBlocks(%s) = %x, %v; want ErrDecrypt", name, got, err)
		}
	}
	if _, err := signer.UnwrapBlocks(signer.WrapRFC3394, wrapRaw(size(16), zeros), decrypt); !errors.Is(err, signer.ErrDecrypt) {
		t.Errorf("UnwrapBlocks(RFC 3394, form of RFC 5649) = %v, want ErrDecrypt", err)
	}
}

// TestWrapBlocksError: an error of the token is not reported as a bad ciphertext.
func TestWrapBlocksError(t *testing.T) {
	lost := errors.New("lost")
	fail := func([]byte) error { return lost }
	for _, form := range []signer.WrapForm{signer.WrapRFC3394, signer.WrapRFC5649} {
		if _, err := signer.WrapBlocks(form, make([]byte, 16), fail); !errors.Is(err, lost) {
			t.Errorf("WrapBlocks() = %v", err)
		}
		if _, err := signer.UnwrapBlocks(form, make([]byte, 24), fail); !errors.Is(err, lost) {
			t.Errorf("UnwrapBlocks() = %v", err)
		}
	}
}
