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
#cgo noescape hot_cipher
#cgo nocallback hot_cipher
#cgo noescape hot_unwrap
#cgo nocallback hot_unwrap
#cgo noescape hot_derive
#cgo nocallback hot_derive
#cgo noescape hot_open
#cgo nocallback hot_open
#cgo noescape hot_wrap
#cgo nocallback hot_wrap
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

// bytesOf is b for C.
func bytesOf(b []byte) C.hot_bytes {
	return C.hot_bytes{p: (*C.CK_BYTE)(unsafe.SliceData(b)), n: C.CK_ULONG(len(b))}
}

// bufferOf is b for C to write to.
func bufferOf(b []byte) C.hot_buffer {
	return C.hot_buffer{p: (*C.CK_BYTE)(unsafe.SliceData(b)), n: C.CK_ULONG(len(b))}
}

// login shows the token a PIN. The caller wipes it.
func (h hot) login(s p11.SessionHandle, user uint, pin []byte) error {
	p := bytesOf(pin)
	if rv := C.hot_login(h.functions, C.CK_ULONG(s), C.CK_ULONG(user), p.p, p.n); rv != 0 {
		return p11.Error(rv)
	}
	return nil
}

// sign signs data into out, or makes its MAC, and returns how long that is. A
// key that wants a PIN for each operation gets pin; others get nil.
func (s *session) sign(m mechanism, key p11.ObjectHandle, pin, data, out []byte) (int, error) {
	u := s.use(m, key)
	return answer(C.hot_sign(&u, bytesOf(pin), bytesOf(data), bufferOf(out)), "C_SignInit", callSign)
}

// A gcm is what AES-GCM works on beside the text. iv has 12 bytes, which are
// others after an encryption by a token that makes its own.
type gcm struct{ iv, aad []byte }

func (g gcm) c() C.hot_gcm {
	return C.hot_gcm{iv: (*C.CK_BYTE)(unsafe.SliceData(g.iv)), aad: bytesOf(g.aad)}
}

// decrypt is sign for decryption. On an error it leaves nothing in out.
func (s *session) decrypt(m mechanism, key p11.ObjectHandle, pin, ciphertext, out []byte) (int, error) {
	return s.open(m, key, pin, gcm{}, ciphertext, out)
}

// open is decrypt for AES-GCM, too.
func (s *session) open(m mechanism, key p11.ObjectHandle, pin []byte, g gcm, ciphertext, out []byte) (int, error) {
	u := s.use(m, key)
	return answer(C.hot_cipher(&u, 0, bytesOf(pin), g.c(), bytesOf(ciphertext), bufferOf(out)), "C_DecryptInit", callDecrypt)
}

// seal undoes open.
func (s *session) seal(m mechanism, key p11.ObjectHandle, pin []byte, g gcm, plaintext, out []byte) (int, error) {
	u := s.use(m, key)
	return answer(C.hot_cipher(&u, 1, bytesOf(pin), g.c(), bytesOf(plaintext), bufferOf(out)), "C_EncryptInit", "C_Encrypt")
}

// An object says what C_UnwrapKey or C_DeriveKey make: a session object, which
// is destroyed before the call of this package returns.
type object struct {
	access access
	size   int // in bytes, if the template is to say so
}

// An access says what becomes of the value of a new object.
type access int

const (
	readable access = C.HOT_READABLE // it may be read
	hidden   access = C.HOT_HIDDEN   // it stays in the token
	unsaid   access = C.HOT_UNSAID   // what the token likes, or CKA_UNWRAP_TEMPLATE
)

func (o object) c(keyType C.CK_ULONG) C.hot_object {
	return C.hot_object{key_type: keyType, access: C.CK_ULONG(o.access), value_len: C.CK_ULONG(o.size)}
}

// unwrap unwraps a key with another and reads its value into out.
func (s *session) unwrap(m mechanism, key p11.ObjectHandle, o object, wrapped, out []byte) (int, error) {
	u := s.use(m, key)
	return answer(C.hot_unwrap(&u, o.c(C.CKK_GENERIC_SECRET), bytesOf(wrapped), bufferOf(out)), callUnwrap, callUnwrap)
}

// derive agrees on a secret by ECDH and reads it into out.
func (s *session) derive(key p11.ObjectHandle, o object, point, out []byte) (int, error) {
	u := s.use(mechanism{}, key)
	return answer(C.hot_derive(&u, o.c(C.CKK_GENERIC_SECRET), bytesOf(point), bufferOf(out)), callDerive, callDerive)
}

// openWithin unwraps a CEK of size bytes and decrypts sealed with it by AES-GCM.
// The CEK does not leave the token.
func (s *session) openWithin(m mechanism, key p11.ObjectHandle, o object, size int, wrapped []byte, g gcm, sealed, out []byte) (int, error) {
	u := s.use(m, key)
	return answer(C.hot_open(&u, o.c(C.CKK_AES), C.CK_ULONG(size), bytesOf(wrapped), g.c(), bytesOf(sealed), bufferOf(out)), callUnwrap, callUnwrap)
}

// wrap wraps value, which becomes a session object for as long as that takes.
func (s *session) wrap(m mechanism, key p11.ObjectHandle, value, out []byte) (int, error) {
	u := s.use(m, key)
	return answer(C.hot_wrap(&u, bytesOf(value), bufferOf(out)), "C_CreateObject", "C_WrapKey")
}

// answer turns what an operation came to into Go. begin and operate are its calls.
func answer(a C.hot_answer, begin, operate string) (int, error) {
	if a.rv == 0 {
		return int(a.out), nil
	}
	call := operate
	switch a.step {
	case C.HOT_INIT, C.HOT_MAKE:
		call = begin
	case C.HOT_LOGIN:
		call = callLogin
	case C.HOT_READ:
		call = callTake
	case C.HOT_CONTENT_INIT:
		call = callContentInit
	case C.HOT_CONTENT:
		call = callDecrypt
	case C.HOT_DESTROY:
		call = callDestroy
	}
	return 0, callError(call, p11.Error(a.rv))
}
