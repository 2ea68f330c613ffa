//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// The calls that are told apart. The answers of callDecrypt, callUnwrap and
// callDerive can depend on a secret.
const (
	callLogin   = "C_Login"
	callSign    = "C_Sign"
	callDecrypt = "C_Decrypt"
	callUnwrap  = "C_UnwrapKey"
	callDerive  = "C_DeriveKey"
)

// A tokenError is what a call into the module answered, and which of the errors
// of package signer that is.
type tokenError struct {
	call string
	rv   p11.Error
	is   error
}

func (e *tokenError) Error() string {
	return fmt.Sprintf("%v: %s answered %s", e.is, e.call, strings.TrimPrefix(e.rv.Error(), "pkcs11: "))
}

func (e *tokenError) Unwrap() error { return e.is }

// callError turns the error of a call into the module into one of package
// signer's.
//
// What C_Decrypt, C_UnwrapKey and C_DeriveKey say about their input becomes
// ErrDecrypt and nothing else. Tokens use general and device errors, and codes
// of their own, for that, so those are no news of the device when they come
// from there.
func callError(call string, err error) error {
	var rv p11.Error
	if err == nil || !errors.As(err, &rv) {
		return err
	}
	if (call == callDecrypt || call == callUnwrap || call == callDerive) && saysBadInput(rv) {
		return signer.ErrDecrypt
	}
	switch rv {
	case p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID,
		p11.CKR_ARGUMENTS_BAD, // SoftHSM2, for a hash that it does not have
		p11.CKR_KEY_FUNCTION_NOT_PERMITTED, p11.CKR_FUNCTION_NOT_SUPPORTED:
		return &tokenError{call, rv, signer.ErrUnsupported}
	}
	return &tokenError{call, rv, signer.ErrUnavailable}
}

// saysBadInput reports whether an operation may answer rv because of a
// ciphertext: seen with SoftHSM2, NSS, opencryptoki, or one vendor's own code.
func saysBadInput(rv p11.Error) bool {
	switch rv {
	case p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED, p11.CKR_ARGUMENTS_BAD,
		p11.CKR_DATA_INVALID, p11.CKR_DATA_LEN_RANGE, p11.CKR_DEVICE_ERROR,
		p11.CKR_ENCRYPTED_DATA_INVALID, p11.CKR_ENCRYPTED_DATA_LEN_RANGE,
		p11.CKR_KEY_SIZE_RANGE,
		p11.CKR_WRAPPED_KEY_INVALID, p11.CKR_WRAPPED_KEY_LEN_RANGE:
		return true
	}
	return rv >= p11.CKR_VENDOR_DEFINED
}

// lost reports whether the session that err came from is of no more use: it is
// gone, logged out, or stuck in an unfinished operation, or its object handles
// or its device are gone.
func lost(err error) bool {
	var e *tokenError
	if !errors.As(err, &e) {
		return false
	}
	switch e.rv {
	case p11.CKR_SESSION_CLOSED, p11.CKR_SESSION_HANDLE_INVALID,
		p11.CKR_USER_NOT_LOGGED_IN,
		p11.CKR_KEY_HANDLE_INVALID, p11.CKR_OBJECT_HANDLE_INVALID,
		p11.CKR_KEY_TYPE_INCONSISTENT, // NSS, after a logout
		p11.CKR_OPERATION_ACTIVE, p11.CKR_OPERATION_NOT_INITIALIZED,
		p11.CKR_DEVICE_ERROR, p11.CKR_DEVICE_REMOVED,
		p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_TOKEN_NOT_RECOGNIZED,
		p11.CKR_CRYPTOKI_NOT_INITIALIZED:
		return true
	}
	return false
}

// answered reports whether err is the module's answer rv.
func answered(err error, rv p11.Error) bool {
	var e *tokenError
	return errors.As(err, &e) && e.rv == rv
}
