//go:build cgo

package pkcs11

/*
#cgo linux LDFLAGS: -ldl
#include <stdlib.h>
#include "hot.h"

#cgo noescape hot_login
#cgo nocallback hot_login
#cgo noescape hot_sign
#cgo nocallback hot_sign
#cgo noescape hot_decrypt
#cgo nocallback hot_decrypt
*/
import "C"

import (
	"fmt"
	"reflect"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// A hot makes the calls into a module that each request needs: one cgo call an
// operation, into the caller's buffer, without an allocation in Go or C, and so
// without one that an error could leak. The PIN is taken as bytes that the
// caller can wipe.
//
// What is rare (slots, tokens, sessions, attributes, finding) goes through
// github.com/miekg/pkcs11, which has the same library loaded.
type hot struct{ functions *C.hot_functions }

// hotOf returns the calls of the module that ctx has loaded, from the very list of
// functions that the binding calls: p11-kit's client gives each who asks an
// instance of its own, with sessions of its own. The binding keeps the list to
// itself, as the second word of a struct that its only field points to.
func hotOf(ctx *p11.Ctx) hot {
	field := reflect.ValueOf(ctx).Elem().FieldByName("ctx")
	words := (*[2]unsafe.Pointer)(field.UnsafePointer()) // #nosec G103 -- struct ctx { void *handle; CK_FUNCTION_LIST_PTR sym; }
	return hot{(*C.hot_functions)(words[1])}
}

// tryLoad loads the module at path, or finds it loaded, for the words of the
// dynamic loader if it cannot. The module stays loaded as long as the process
// lives.
func tryLoad(path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var (
		why *C.char
		rv  C.CK_ULONG
	)
	f := C.hot_load(name, &why, &rv)
	switch {
	case f != nil:
		return nil
	case why != nil:
		return fmt.Errorf("%w: the dynamic loader refuses it: %s", signer.ErrUnavailable, C.GoString(why))
	case rv != 0:
		return callError("C_GetFunctionList", p11.Error(rv))
	default:
		return fmt.Errorf("%w: its C_GetFunctionList gives no functions", signer.ErrUnavailable)
	}
}

// initializeLocked calls C_Initialize and begins a new generation.
func (m *module) initializeLocked() error {
	m.generation.Add(1)
	var options []p11.InitializeOption
	if m.initArgs != "" {
		args := C.CString(m.initArgs)
		defer C.free(unsafe.Pointer(args))
		options = append(options, p11.InitializeWithReserved(unsafe.Pointer(args)))
	}
	return callError("C_Initialize", m.ctx.Initialize(options...))
}

// A mechanism is a CK_MECHANISM whose parameter has no pointers but NULL.
type mechanism struct {
	typ    uint
	params [5]uint // CK_ULONGs
	n      int     // of params
}

// use names a key and what to do with it.
func (s *session) use(m mechanism, key p11.ObjectHandle) C.hot_use {
	u := C.hot_use{
		f:          s.hot.functions,
		session:    C.CK_ULONG(s.handle),
		mechanism:  C.CK_ULONG(m.typ),
		params_len: C.CK_ULONG(m.n) * C.sizeof_CK_ULONG,
		key:        C.CK_ULONG(key),
	}
	for i, p := range m.params[:m.n] {
		u.params[i] = C.CK_ULONG(p)
	}
	return u
}

// bytesOf returns the start of b for C, and its length.
func bytesOf(b []byte) (*C.CK_BYTE, C.CK_ULONG) {
	return (*C.CK_BYTE)(unsafe.SliceData(b)), C.CK_ULONG(len(b))
}

// login shows the token a PIN. The caller wipes it.
func (h hot) login(s p11.SessionHandle, user uint, pin []byte) error {
	p, n := bytesOf(pin)
	if rv := C.hot_login(h.functions, C.CK_ULONG(s), C.CK_ULONG(user), p, n); rv != 0 {
		return p11.Error(rv)
	}
	return nil
}

// sign signs data into out and returns how long the signature is. A key that
// wants a PIN for each operation gets pin; others get nil.
func (s *session) sign(m mechanism, key p11.ObjectHandle, pin, data, out []byte) (int, error) {
	u := s.use(m, key)
	p, pn := bytesOf(pin)
	in, n := bytesOf(data)
	o, size := bytesOf(out)
	return answer(C.hot_sign(&u, p, pn, in, n, o, size), "C_SignInit", callSign)
}

// decrypt is sign for decryption. On an error it leaves nothing in out.
func (s *session) decrypt(m mechanism, key p11.ObjectHandle, pin, ciphertext, out []byte) (int, error) {
	u := s.use(m, key)
	p, pn := bytesOf(pin)
	in, n := bytesOf(ciphertext)
	o, size := bytesOf(out)
	return answer(C.hot_decrypt(&u, p, pn, in, n, o, size), "C_DecryptInit", callDecrypt)
}

// answer turns what an operation of two calls came to into Go.
func answer(a C.hot_answer, initialise, operate string) (int, error) {
	if a.rv == 0 {
		return int(a.out), nil
	}
	call := operate
	switch a.stage {
	case C.HOT_INIT:
		call = initialise
	case C.HOT_LOGIN:
		call = callLogin
	}
	return 0, callError(call, p11.Error(a.rv))
}
