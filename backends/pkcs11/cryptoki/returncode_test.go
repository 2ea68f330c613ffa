//go:build cgo

package cryptoki

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// answers has the codes of PKCS#11 v2.40 and v3.0 by their class in most calls: the ones
// that begin an operation, operations whose input is ours, and queries about the token or
// an object.
var answers = map[Class][]p11.Error{
	ClassMisuse: {
		0x07, 0x08, 0x10, 0x11, 0x12, 0x13, 0x1b, 0x20, 0x21, 0x40, 0x41, 0x42, 0x51, 0x54,
		0x62, 0x64, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x70, 0x71, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xc0, 0xc1,
		0xd0, 0xd1, 0xe2, 0xf1, 0x110, 0x112, 0x114, 0x115, 0x120, 0x121, 0x130, 0x140, 0x160, 0x170, 0x180,
		0x1b5, 0x1b9, 0x200, 0x203, 0x209,
	},
	ClassSession:  {0x01, 0x50, 0x60, 0x63, 0x65, 0x82, 0x90, 0x91, 0xb0, 0xb3, 0xf0, 0xf2, 0x101, 0x113, 0x150, 0x202, 0x204},
	ClassDevice:   {0x03, 0x05, 0x06, 0x09, 0x0a, 0x30, 0x32, 0xe0, 0xe1, 0x100, 0x190, 0x191, 0x1a0, 0x1a1, 0x1b6, 0x1b7, 0x208, 0x7777, 0x80000000, 0x80000007},
	ClassLogin:    {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0x102, 0x103, 0x104, 0x105, 0x1b0, 0x1b1, 0x1b8},
	ClassCapacity: {0x02, 0x31, 0xb1, 0x201},
}

// notInput has the codes that keep their class in an operation on a ciphertext: all others
// are about the ciphertext there. badPIN has the codes that mean a wrong PIN when they come
// from C_Login.
var (
	notInput = []p11.Error{
		0x01, 0x50, 0x60, 0x63, 0x65, 0x82, 0x90, 0x91, 0xb0, 0xb3, 0xf0, 0xf2, 0x101, 0x113, 0x202, 0x204, // ClassSession without 0x150
		0x32, 0xe0, 0xe1, 0x190, 0x208, // the device is gone
		0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0x102, 0x103, 0x104, 0x105, 0x1b0, 0x1b1, 0x1b8, // ClassLogin
		0x02, 0x31, 0xb1, 0x201, // ClassCapacity
		0x54, 0x68, 0x70, // neither mechanism nor function
	}
	badPIN = []p11.Error{0x07, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0x102}
)

var sentinels = map[Class]error{
	ClassMisuse:   signer.ErrUnsupported,
	ClassInput:    signer.ErrDecrypt,
	ClassSession:  signer.ErrUnavailable,
	ClassDevice:   signer.ErrUnavailable,
	ClassLogin:    signer.ErrUnavailable,
	ClassCapacity: signer.ErrOverloaded,
}

func TestClassify(t *testing.T) {
	usual := make(map[p11.Error]Class)
	for c, rvs := range answers {
		for _, rv := range rvs {
			if usual[rv] != ClassNone {
				t.Fatalf("%#x is listed twice", uint(rv))
			}
			usual[rv] = c
		}
	}

	for rv := p11.Error(1); rv <= 0x300; rv++ {
		if _, listed := usual[rv]; !listed && strings.Contains(rv.Error(), "CKR_") {
			t.Errorf("%v is not listed", rv)
		}
	}
	special := map[string]map[p11.Error]Class{
		callLogin: {}, callDecrypt: {}, callUnwrap: {}, callDerive: {}, callTake: {}, callContentInit: {}, callDestroy: {},
	}

	for _, rv := range badPIN {
		special[callLogin][rv] = ClassLogin
	}

	for rv, c := range usual {
		for _, call := range []string{callDecrypt, callUnwrap, callDerive, callTake, callContentInit} {
			if !slices.Contains(notInput, rv) {
				special[call][rv] = ClassInput
			}
		}
		if c == ClassMisuse { // the new key is still there
			special[callDestroy][rv] = ClassSession
		}
	}

	for _, call := range []string{callTake, callContentInit} {
		special[call][0x11], special[call][0x12] = ClassMisuse, ClassMisuse // for every new key
		special[call][0x63] = ClassInput
	}

	for _, call := range []string{
		"C_SignInit", callSign, "C_DecryptInit", callDecrypt, callLogin, "C_EncryptInit", "C_Encrypt",
		callUnwrap, callDerive, callTake, callContentInit, callDestroy, "C_CreateObject", "C_WrapKey",
		"C_Initialize", "C_GetSlotList", "C_GetTokenInfo", "C_OpenSession", "C_GetSessionInfo",
		"C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue",
	} {
		for rv, want := range usual {
			if c := special[call][rv]; c != ClassNone {
				want = c
			}
			got, is := classify(call, rv)
			if got != want || !errors.Is(is, sentinels[want]) {
				t.Errorf("classify(%s, %#x) = %d, %v, want %d, %v", call, uint(rv), got, is, want, sentinels[want])
			}
		}
	}
}

func TestCallError(t *testing.T) {
	for rv, c := range map[p11.Error]Class{0x05: ClassDevice, 0xb3: ClassSession, 0x31: ClassCapacity, 0x70: ClassMisuse} {
		err := fmt.Errorf("sign ES256: %w", callError(callSign, rv))
		if !errors.Is(err, sentinels[c]) || ClassOf(err) != c || !strings.Contains(err.Error(), "C_Sign answered 0x") {
			t.Errorf("callError(C_Sign, %v) = %v of class %d, want class %d", rv, err, ClassOf(err), c)
		}
		if want := c == ClassDevice || c == ClassSession; Lost(err) != want {
			t.Errorf("Lost(%v) = %t", err, !want)
		}
	}

	if err := callError("C_OpenSession", p11.Error(p11.CKR_SESSION_COUNT)); !Full(err) || Full(callError("C_OpenSession", p11.Error(p11.CKR_DEVICE_MEMORY))) {
		t.Errorf("%v does not mean that the token is full, or every lack of memory does", err)
	}
	if err := callError(callDecrypt, p11.Error(0x05)); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
		t.Errorf("callError(C_Decrypt, 5) = %v, want ErrDecrypt itself", err)
	}

	if err := callError(callSign, nil); err != nil {
		t.Errorf("callError of nil = %v", err)
	}
	other := errors.New("other")
	if err := callError(callSign, other); !errors.Is(err, other) || Lost(err) || ClassOf(err) != ClassNone {
		t.Errorf("callError of an error that is not a CKR = %v", err)
	}
}
