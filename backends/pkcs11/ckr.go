//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// The calls that are told apart. The answers of those from callDecrypt on can
// depend on a secret.
const (
	callLogin   = "C_Login"
	callSign    = "C_Sign"
	callDestroy = "C_DestroyObject"

	callDecrypt     = "C_Decrypt"
	callUnwrap      = "C_UnwrapKey"
	callDerive      = "C_DeriveKey"
	callTake        = "C_GetAttributeValue of the new key"
	callContentInit = "C_DecryptInit with the new key"
)

// A class says what an answer of the module asks us to do.
type class int

const (
	classNone     class = iota
	classMisuse         // what is asked does not fit key or token: nothing to repair
	classInput          // a ciphertext is bad, or so it seems: one error for all, and a look at the token
	classSession        // login, session or handles are lost: log in, open and find again
	classDevice         // the token may be gone: see, and begin anew if it is
	classLogin          // the token refuses the PIN: wait for the operator
	classCapacity       // no more sessions or memory: use fewer
)

// Codes of PKCS#11 v3.0 and later that the binding has no names for.
const (
	ckrAEADDecryptFailed     p11.Error = 0x42
	ckrTokenResourceExceeded p11.Error = 0x201
	ckrOperationCancelFailed p11.Error = 0x202
	ckrKeyExhausted          p11.Error = 0x203
	ckrPending               p11.Error = 0x204
	ckrTokenNotInitialized   p11.Error = 0x208
	ckrParameterSetUnknown   p11.Error = 0x209
)

// classify says what it means that call answered rv, which is not CKR_OK, and
// which of the errors of package signer it is.
//
// What C_Decrypt, C_UnwrapKey and C_DeriveKey say about their input is ErrDecrypt
// and nothing else, and so is what is said of the key that they made of it.
// Tokens use general and device errors, and codes of their own, for that, so those
// are no news of the device when they come from there. A new key that stays where
// it is goes with its session.
func classify(call string, rv p11.Error) (class, error) {
	switch call {
	case callDecrypt, callUnwrap, callDerive:
		if saysBadInput(rv) {
			return classInput, signer.ErrDecrypt
		}
	case callTake, callContentInit:
		if saysBadKey(rv) {
			return classInput, signer.ErrDecrypt
		}
	case callDestroy:
		if c, is := classify("", rv); c != classMisuse {
			return c, is
		}
		return classSession, signer.ErrUnavailable
	case callLogin:
		if refusesPIN(rv) {
			return classLogin, signer.ErrUnavailable
		}
	}
	switch {
	case saysLost(rv):
		return classSession, signer.ErrUnavailable
	case saysMisuse(rv):
		return classMisuse, signer.ErrUnsupported
	}
	switch {
	case saysFull(rv):
		return classCapacity, signer.ErrOverloaded
	case saysLoginRefused(rv):
		return classLogin, signer.ErrUnavailable
	}
	// CKR_DEVICE_*, CKR_TOKEN_*, general errors, vendors' own codes, and what
	// nobody has heard of.
	return classDevice, signer.ErrUnavailable
}

// saysFull reports whether rv means that the token or the host has no more room.
func saysFull(rv p11.Error) bool {
	switch rv {
	case p11.CKR_HOST_MEMORY, p11.CKR_DEVICE_MEMORY, p11.CKR_SESSION_COUNT, ckrTokenResourceExceeded:
		return true
	}
	return false
}

// saysLoginRefused reports whether rv is about PINs or users.
func saysLoginRefused(rv p11.Error) bool {
	switch rv {
	case p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_EXPIRED,
		p11.CKR_PIN_LOCKED, p11.CKR_USER_PIN_NOT_INITIALIZED, p11.CKR_USER_TYPE_INVALID,
		p11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN, p11.CKR_USER_TOO_MANY_TYPES,
		p11.CKR_NEW_PIN_MODE, p11.CKR_NEXT_OTP, p11.CKR_PIN_TOO_WEAK:
		return true
	}
	return false
}

// saysBadInput reports whether an operation may answer rv because of a
// ciphertext. Tokens use nearly any code for that, so it is all but those that
// can only be about the session, the login, the device, memory or the mechanism:
// an answer that told one bad ciphertext from another would be an oracle.
func saysBadInput(rv p11.Error) bool {
	switch rv {
	case p11.CKR_BUFFER_TOO_SMALL: // ours is as large as the modulus
		return true
	case p11.CKR_MECHANISM_INVALID, p11.CKR_FUNCTION_NOT_SUPPORTED, p11.CKR_KEY_FUNCTION_NOT_PERMITTED,
		p11.CKR_DEVICE_REMOVED, p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_TOKEN_NOT_RECOGNIZED, ckrTokenNotInitialized,
		p11.CKR_CRYPTOKI_NOT_INITIALIZED:
		return false
	}
	return !saysLost(rv) && !saysFull(rv) && !saysLoginRefused(rv)
}

// saysBadKey is saysBadInput for the use of a key that the operation has just
// made of its input. What the token rules out for every such key is no word on
// this one.
func saysBadKey(rv p11.Error) bool {
	switch rv {
	case p11.CKR_ATTRIBUTE_SENSITIVE, p11.CKR_ATTRIBUTE_TYPE_INVALID:
		return false
	case p11.CKR_KEY_TYPE_INCONSISTENT:
		return true
	}
	return saysBadInput(rv)
}

// saysLost reports whether rv means that the session, its login or its handles
// are of no more use.
func saysLost(rv p11.Error) bool {
	switch rv {
	case p11.CKR_SESSION_CLOSED, p11.CKR_SESSION_HANDLE_INVALID,
		p11.CKR_USER_NOT_LOGGED_IN,
		p11.CKR_KEY_HANDLE_INVALID, p11.CKR_OBJECT_HANDLE_INVALID, p11.CKR_KEY_CHANGED,
		p11.CKR_UNWRAPPING_KEY_HANDLE_INVALID, p11.CKR_WRAPPING_KEY_HANDLE_INVALID,
		p11.CKR_KEY_TYPE_INCONSISTENT, p11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT: // NSS, after a logout
		return true
	}
	return unfinished(rv)
}

// unfinished reports whether rv means that a session is in the middle of an
// operation that nobody will finish. Only another session helps.
func unfinished(rv p11.Error) bool {
	switch rv {
	case p11.CKR_OPERATION_ACTIVE, p11.CKR_OPERATION_NOT_INITIALIZED, p11.CKR_BUFFER_TOO_SMALL,
		p11.CKR_CANCEL, p11.CKR_FUNCTION_CANCELED, ckrOperationCancelFailed, ckrPending:
		return true
	}
	return false
}

// saysMisuse reports whether rv is about what was asked for.
func saysMisuse(rv p11.Error) bool {
	switch rv {
	case p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID,
		p11.CKR_ARGUMENTS_BAD, // SoftHSM2, for a hash that it does not have
		p11.CKR_KEY_FUNCTION_NOT_PERMITTED, p11.CKR_FUNCTION_NOT_SUPPORTED,
		p11.CKR_NO_EVENT, p11.CKR_ATTRIBUTE_READ_ONLY, p11.CKR_ATTRIBUTE_SENSITIVE,
		p11.CKR_ATTRIBUTE_TYPE_INVALID, p11.CKR_ATTRIBUTE_VALUE_INVALID, p11.CKR_ACTION_PROHIBITED,
		p11.CKR_DATA_INVALID, p11.CKR_DATA_LEN_RANGE,
		p11.CKR_ENCRYPTED_DATA_INVALID, p11.CKR_ENCRYPTED_DATA_LEN_RANGE, ckrAEADDecryptFailed,
		p11.CKR_FUNCTION_NOT_PARALLEL, p11.CKR_SESSION_PARALLEL_NOT_SUPPORTED,
		p11.CKR_KEY_SIZE_RANGE, p11.CKR_KEY_NOT_NEEDED, p11.CKR_KEY_NEEDED, p11.CKR_KEY_INDIGESTIBLE,
		p11.CKR_KEY_NOT_WRAPPABLE, p11.CKR_KEY_UNEXTRACTABLE, ckrKeyExhausted,
		p11.CKR_SESSION_READ_ONLY, p11.CKR_SESSION_EXISTS, p11.CKR_SESSION_READ_ONLY_EXISTS,
		p11.CKR_SESSION_READ_WRITE_SO_EXISTS,
		p11.CKR_SIGNATURE_INVALID, p11.CKR_SIGNATURE_LEN_RANGE,
		p11.CKR_TEMPLATE_INCOMPLETE, p11.CKR_TEMPLATE_INCONSISTENT, p11.CKR_TOKEN_WRITE_PROTECTED,
		p11.CKR_UNWRAPPING_KEY_SIZE_RANGE, p11.CKR_WRAPPED_KEY_INVALID, p11.CKR_WRAPPED_KEY_LEN_RANGE,
		p11.CKR_WRAPPING_KEY_SIZE_RANGE, p11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT,
		p11.CKR_RANDOM_SEED_NOT_SUPPORTED, p11.CKR_RANDOM_NO_RNG,
		p11.CKR_DOMAIN_PARAMS_INVALID, p11.CKR_CURVE_NOT_SUPPORTED, p11.CKR_PUBLIC_KEY_INVALID,
		p11.CKR_SAVED_STATE_INVALID, p11.CKR_INFORMATION_SENSITIVE, p11.CKR_STATE_UNSAVEABLE,
		p11.CKR_EXCEEDED_MAX_ITERATIONS, p11.CKR_FUNCTION_REJECTED, ckrParameterSetUnknown:
		return true
	}
	return false
}

// refusesPIN reports whether rv is C_Login's word on the PIN rather than on the
// state of the token.
func refusesPIN(rv p11.Error) bool {
	switch rv {
	case p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_EXPIRED,
		p11.CKR_PIN_LOCKED, p11.CKR_USER_PIN_NOT_INITIALIZED, p11.CKR_ARGUMENTS_BAD:
		return true
	}
	return false
}

// A tokenError is what a call into the module answered, what that asks for, and
// which of the errors of package signer it is.
type tokenError struct {
	call  string
	rv    p11.Error
	class class
	is    error
}

func (e *tokenError) Error() string {
	return fmt.Sprintf("%v: %s answered %s", e.is, e.call, strings.TrimPrefix(e.rv.Error(), "pkcs11: "))
}

func (e *tokenError) Unwrap() error { return e.is }

// callError turns the error of a call into the module into one of package
// signer's: ErrDecrypt itself, or a [tokenError].
func callError(call string, err error) error {
	var rv p11.Error
	if err == nil || !errors.As(err, &rv) {
		return err
	}
	c, is := classify(call, rv)
	if c == classInput {
		return is
	}
	return &tokenError{call, rv, c, is}
}

// classOf returns the class of err.
func classOf(err error) class {
	if err == nil {
		return classNone // without what errors.As would allocate, after each call that went well
	}
	var e *tokenError
	switch {
	case errors.As(err, &e):
		return e.class
	case errors.Is(err, signer.ErrDecrypt):
		return classInput
	default:
		return classNone
	}
}

// lost reports whether the session that err came from is of no more use.
func lost(err error) bool {
	c := classOf(err)
	return c == classSession || c == classDevice
}

// answered reports whether err is the module's answer rv.
func answered(err error, rv p11.Error) bool {
	if err == nil {
		return false // as in classOf
	}
	var e *tokenError
	return errors.As(err, &e) && e.rv == rv
}
