//go:build cgo

package cryptoki

import (
	"errors"
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

// The calls whose answers are classified in a way of their own. The answers of those from
// callDecrypt on can depend on a secret.
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

// A Class says what an answer of the module asks the caller to do.
type Class int

// The classes of answers.
const (
	ClassNone     Class = iota // no error, or none of the module
	ClassMisuse                // what was asked does not fit the key or the token: nothing to repair
	ClassInput                 // the ciphertext is bad, or so it seems: one error for all, and a look at the token
	ClassSession               // the login, the session or its handles are lost: log in, open and find again
	ClassDevice                // the token may be gone: look, and initialise the module anew if it is
	ClassLogin                 // the token refuses the PIN: wait for the operator
	ClassCapacity              // no more sessions or memory: use fewer
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

// classify returns the class of an answer rv of call, which is not CKR_OK, and the error
// of package signer that it is.
//
// What C_Decrypt, C_UnwrapKey and C_DeriveKey answer about their input is ErrDecrypt and
// nothing else, and so is what is answered about the key that they made of it. Tokens use
// general errors, device errors and codes of their own for a bad input, so those say
// nothing about the device when they come from there.
func classify(call string, rv p11.Error) (Class, error) {
	switch call {
	case callDecrypt, callUnwrap, callDerive:
		if saysBadInput(rv) {
			return ClassInput, signer.ErrDecrypt
		}
	case callTake, callContentInit:
		if saysBadKey(rv) {
			return ClassInput, signer.ErrDecrypt
		}
	case callDestroy:
		// A new key that cannot be destroyed goes with its session.
		if c, is := classify("", rv); c != ClassMisuse {
			return c, is
		}
		return ClassSession, signer.ErrUnavailable
	case callLogin:
		if refusesPIN(rv) {
			return ClassLogin, signer.ErrUnavailable
		}
	}

	switch {
	case saysLost(rv):
		return ClassSession, signer.ErrUnavailable
	case saysMisuse(rv):
		return ClassMisuse, signer.ErrUnsupported
	case saysFull(rv):
		return ClassCapacity, signer.ErrOverloaded
	case saysLoginRefused(rv):
		return ClassLogin, signer.ErrUnavailable
	default:
		// CKR_DEVICE_*, CKR_TOKEN_*, general errors, vendors' own codes, and all that
		// is unknown.
		return ClassDevice, signer.ErrUnavailable
	}
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

// saysBadInput reports whether an operation may answer rv because of a ciphertext. Tokens
// use nearly any code for that. So it is true for all codes but those that can only be
// about the session, the login, the device, memory or the mechanism: an answer that told
// one bad ciphertext from another would be an oracle.
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

// saysBadKey is saysBadInput for the use of a key that the operation has just made of its
// input. What the token rules out for every such key says nothing about this one.
func saysBadKey(rv p11.Error) bool {
	switch rv {
	case p11.CKR_ATTRIBUTE_SENSITIVE, p11.CKR_ATTRIBUTE_TYPE_INVALID:
		return false
	case p11.CKR_KEY_TYPE_INCONSISTENT:
		return true
	}
	return saysBadInput(rv)
}

// saysLost reports whether rv means that the session, its login or its handles can no
// longer be used.
func saysLost(rv p11.Error) bool {
	switch rv {
	case p11.CKR_SESSION_CLOSED, p11.CKR_SESSION_HANDLE_INVALID,
		p11.CKR_USER_NOT_LOGGED_IN,
		p11.CKR_KEY_HANDLE_INVALID, p11.CKR_OBJECT_HANDLE_INVALID, p11.CKR_KEY_CHANGED,
		p11.CKR_UNWRAPPING_KEY_HANDLE_INVALID, p11.CKR_WRAPPING_KEY_HANDLE_INVALID,
		p11.CKR_KEY_TYPE_INCONSISTENT, p11.CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT: // NSS, after a logout
		return true
	}
	return saysUnfinished(rv)
}

// saysUnfinished reports whether rv means that the session is in the middle of an operation
// that will not be finished.
func saysUnfinished(rv p11.Error) bool {
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

// refusesPIN reports whether an answer rv of C_Login is about the PIN, not about the state
// of the token.
func refusesPIN(rv p11.Error) bool {
	switch rv {
	case p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_EXPIRED,
		p11.CKR_PIN_LOCKED, p11.CKR_USER_PIN_NOT_INITIALIZED, p11.CKR_ARGUMENTS_BAD:
		return true
	}
	return false
}

// A tokenError is an error that the module answered.
type tokenError struct {
	call  string
	rv    p11.Error
	class Class
	is    error // of package signer
}

func (e *tokenError) Error() string {
	return fmt.Sprintf("%v: %s answered %s", e.is, e.call, strings.TrimPrefix(e.rv.Error(), "pkcs11: "))
}

func (e *tokenError) Unwrap() error { return e.is }

// callError turns the error of a call into the module into one of package signer's:
// ErrDecrypt itself, or a [tokenError].
func callError(call string, err error) error {
	var rv p11.Error
	if err == nil || !errors.As(err, &rv) {
		return err
	}
	c, is := classify(call, rv)
	if c == ClassInput {
		return is // bare, so that no text tells one bad ciphertext from another
	}
	return &tokenError{call, rv, c, is}
}

// NotLoggedIn returns the error of a call that shows that the user is not logged in,
// whatever it answered.
func NotLoggedIn(call string) error {
	return callError(call, p11.Error(p11.CKR_USER_NOT_LOGGED_IN))
}

// ClassOf returns the class of err.
func ClassOf(err error) Class {
	if err == nil {
		return ClassNone // errors.As would allocate, after each call that went well
	}
	var e *tokenError
	switch {
	case errors.As(err, &e):
		return e.class
	case errors.Is(err, signer.ErrDecrypt):
		return ClassInput
	default:
		return ClassNone
	}
}

// Lost reports whether the session that err came from can no longer be used.
func Lost(err error) bool {
	c := ClassOf(err)
	return c == ClassSession || c == ClassDevice
}

// Full reports whether err means that the token has no more sessions.
func Full(err error) bool { return Answered(err, p11.CKR_SESSION_COUNT) }

// Unfinished reports whether err means that the session is in the middle of an operation
// that will not be finished. Another session helps, and nothing else needs repair.
func Unfinished(err error) bool {
	var e *tokenError
	return errors.As(err, &e) && saysUnfinished(e.rv)
}

// Answered reports whether err is the module's answer rv.
func Answered(err error, rv p11.Error) bool {
	if err == nil {
		return false // as in ClassOf
	}
	var e *tokenError
	return errors.As(err, &e) && e.rv == rv
}
