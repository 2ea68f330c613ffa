//go:build cgo

package cryptoki

/*
#cgo linux LDFLAGS: -ldl
#include <stdlib.h>
#include "fastcall.h"

#cgo noescape fast_login
#cgo nocallback fast_login
#cgo noescape fast_sign
#cgo nocallback fast_sign
#cgo noescape fast_cipher
#cgo nocallback fast_cipher
#cgo noescape fast_unwrap
#cgo nocallback fast_unwrap
#cgo noescape fast_derive
#cgo nocallback fast_derive
#cgo noescape fast_open
#cgo nocallback fast_open
#cgo noescape fast_wrap
#cgo nocallback fast_wrap
*/
import "C"

import (
	"fmt"
	"reflect"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// The calls into a module that each request needs: one cgo call an operation, into the
// caller's buffer, without an allocation in Go or C, and so without one that an error
// could leak. The PIN is taken as bytes that the caller can wipe. What is rare (slots,
// tokens, sessions, attributes, finding) goes through github.com/miekg/pkcs11, which has
// the same library loaded.

// functions is the CK_FUNCTION_LIST of a loaded module.
type functions struct{ list *C.fast_functions }

// functionsOf returns the list of functions that the binding calls, not one that we ask
// the module for: p11-kit's client gives each who asks an instance of its own, with
// sessions of its own. The binding keeps the list private, as the second word of a struct
// that its only field points to.
func functionsOf(ctx *p11.Ctx) functions {
	field := reflect.ValueOf(ctx).Elem().FieldByName("ctx")
	words := (*[2]unsafe.Pointer)(field.UnsafePointer()) // #nosec G103 -- struct ctx { void *handle; CK_FUNCTION_LIST_PTR sym; }
	return functions{(*C.fast_functions)(words[1])}
}

// A Mechanism is a CK_MECHANISM with a parameter that has no pointers in it but NULL.
type Mechanism struct {
	typ    uint
	params [5]uint // CK_ULONGs
	n      int     // of params
}

// NewMechanism returns the mechanism typ with a parameter of at most 5 CK_ULONGs.
func NewMechanism(typ uint, params ...uint) Mechanism {
	m := Mechanism{typ: typ}
	m.n = copy(m.params[:], params)
	return m
}

// Name returns the name of the mechanism, see [MechanismName].
func (m Mechanism) Name() string { return MechanismName(m.typ) }

// tryLoad loads the library at path for the error text of the dynamic loader, which the
// binding drops. The library stays loaded as long as the process lives.
func tryLoad(path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var (
		why *C.char
		rv  C.CK_ULONG
	)
	f := C.fast_load(name, &why, &rv)

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

// initialize calls C_Initialize, with m.initArgs as pReserved.
func (m *Module) initialize() error {
	var options []p11.InitializeOption
	if m.initArgs != "" {
		args := C.CString(m.initArgs)
		defer C.free(unsafe.Pointer(args))
		options = append(options, p11.InitializeWithReserved(unsafe.Pointer(args)))
	}
	return callError("C_Initialize", m.ctx.Initialize(options...))
}

// login shows the token a PIN. The caller wipes it.
func (f functions) login(s p11.SessionHandle, user uint, pin []byte) error {
	p := bytesOf(pin)
	if rv := C.fast_login(f.list, C.CK_ULONG(s), C.CK_ULONG(user), p.p, p.n); rv != 0 {
		return p11.Error(rv)
	}
	return nil
}

// use names a key and what to do with it.
func (s *Session) use(m Mechanism, key p11.ObjectHandle) C.fast_use {
	u := C.fast_use{
		f:          s.module.functions.list,
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

func bytesOf(b []byte) C.fast_bytes {
	return C.fast_bytes{p: (*C.CK_BYTE)(unsafe.SliceData(b)), n: C.CK_ULONG(len(b))}
}

func bufferOf(b []byte) C.fast_buffer {
	return C.fast_buffer{p: (*C.CK_BYTE)(unsafe.SliceData(b)), n: C.CK_ULONG(len(b))}
}

// Sign signs data, or makes its MAC, and returns the length of what is in out then. pin is
// for keys that want the PIN for each operation; it is nil for others.
func (s *Session) Sign(m Mechanism, key p11.ObjectHandle, pin, data, out []byte) (int, error) {
	u := s.use(m, key)
	return result(C.fast_sign(&u, bytesOf(pin), bytesOf(data), bufferOf(out)), "C_SignInit", callSign)
}

// A GCM is what AES-GCM works on beside the text. The zero GCM is for mechanisms other
// than CKM_AES_GCM.
type GCM struct {
	IV  []byte // 12 bytes; a token that makes its own IV writes it there when it encrypts
	AAD []byte
}

func (g GCM) c() C.fast_gcm {
	return C.fast_gcm{iv: (*C.CK_BYTE)(unsafe.SliceData(g.IV)), aad: bytesOf(g.AAD)}
}

// Decrypt decrypts ciphertext, and returns the length of what is in out then. pin is as
// for [Session.Sign].
func (s *Session) Decrypt(m Mechanism, key p11.ObjectHandle, pin, ciphertext, out []byte) (int, error) {
	return s.Open(m, key, pin, GCM{}, ciphertext, out)
}

// Open is Decrypt for AES-GCM, too: sealed ends with the tag of 16 bytes.
func (s *Session) Open(m Mechanism, key p11.ObjectHandle, pin []byte, g GCM, sealed, out []byte) (int, error) {
	u := s.use(m, key)
	return result(C.fast_cipher(&u, 0, bytesOf(pin), g.c(), bytesOf(sealed), bufferOf(out)), "C_DecryptInit", callDecrypt)
}

// Seal encrypts plaintext, the reverse of Open.
func (s *Session) Seal(m Mechanism, key p11.ObjectHandle, pin []byte, g GCM, plaintext, out []byte) (int, error) {
	u := s.use(m, key)
	return result(C.fast_cipher(&u, 1, bytesOf(pin), g.c(), bytesOf(plaintext), bufferOf(out)), "C_EncryptInit", "C_Encrypt")
}

// An Object is the template of the session object that C_UnwrapKey or C_DeriveKey makes.
// It is destroyed before the call of this package returns.
type Object struct {
	Access Access
	Size   int // in bytes (CKA_VALUE_LEN), or 0 to leave it out
}

// An Access is what the template says of the value of a new object (CKA_SENSITIVE and
// CKA_EXTRACTABLE).
type Access int

// The accesses. Tokens differ in which of them they allow.
const (
	Readable    Access = C.FAST_READABLE    // the value may be read
	Hidden      Access = C.FAST_HIDDEN      // the value stays in the token
	Unspecified Access = C.FAST_UNSPECIFIED // neither is said: the token or CKA_UNWRAP_TEMPLATE decides
)

func (o Object) c(keyType C.CK_ULONG) C.fast_object {
	return C.fast_object{key_type: keyType, access: C.CK_ULONG(o.Access), value_len: C.CK_ULONG(o.Size)}
}

// Unwrap unwraps a key with another, reads its value into out, and returns its length.
func (s *Session) Unwrap(m Mechanism, key p11.ObjectHandle, o Object, wrapped, out []byte) (int, error) {
	u := s.use(m, key)
	return result(C.fast_unwrap(&u, o.c(C.CKK_GENERIC_SECRET), bytesOf(wrapped), bufferOf(out)), callUnwrap, callUnwrap)
}

// Derive agrees on a secret by ECDH (CKM_ECDH1_DERIVE without a KDF), reads it into out,
// and returns its length.
func (s *Session) Derive(key p11.ObjectHandle, o Object, point, out []byte) (int, error) {
	u := s.use(Mechanism{}, key)
	return result(C.fast_derive(&u, o.c(C.CKK_GENERIC_SECRET), bytesOf(point), bufferOf(out)), callDerive, callDerive)
}

// UnwrapAndOpen unwraps an AES key of size bytes and decrypts sealed with it by AES-GCM.
// The AES key does not leave the token.
func (s *Session) UnwrapAndOpen(m Mechanism, key p11.ObjectHandle, o Object, size int, wrapped []byte, g GCM, sealed, out []byte) (int, error) {
	u := s.use(m, key)
	return result(C.fast_open(&u, o.c(C.CKK_AES), C.CK_ULONG(size), bytesOf(wrapped), g.c(), bytesOf(sealed), bufferOf(out)), callUnwrap, callUnwrap)
}

// Wrap wraps value, which becomes a session object for as long as that takes, and returns
// the length of what is in out then.
func (s *Session) Wrap(m Mechanism, key p11.ObjectHandle, value, out []byte) (int, error) {
	u := s.use(m, key)
	return result(C.fast_wrap(&u, bytesOf(value), bufferOf(out)), "C_CreateObject", "C_WrapKey")
}

// result returns the length of an output, or the error of the call that failed. begin and
// operate are the names of the operation's calls.
func result(a C.fast_answer, begin, operate string) (int, error) {
	if a.rv == 0 {
		return int(a.out), nil
	}

	call := operate
	switch a.step {
	case C.FAST_INIT, C.FAST_MAKE:
		call = begin
	case C.FAST_LOGIN:
		call = callLogin
	case C.FAST_READ:
		call = callTake
	case C.FAST_CONTENT_INIT:
		call = callContentInit
	case C.FAST_CONTENT:
		call = callDecrypt
	case C.FAST_DESTROY:
		call = callDestroy
	}
	return 0, callError(call, p11.Error(a.rv))
}
