//go:build cgo

package pkcs11

import (
	"errors"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/signer"
)

func TestCallError(t *testing.T) {
	const (
		stays = false
		drops = true
	)
	tests := []struct {
		call string
		rv   p11.Error
		want error
		lost bool
	}{
		{callDecrypt, p11.CKR_GENERAL_ERROR, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_FUNCTION_FAILED, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_ARGUMENTS_BAD, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_DATA_INVALID, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_DATA_LEN_RANGE, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_DEVICE_ERROR, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_ENCRYPTED_DATA_INVALID, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_ENCRYPTED_DATA_LEN_RANGE, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_KEY_SIZE_RANGE, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_WRAPPED_KEY_INVALID, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_WRAPPED_KEY_LEN_RANGE, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_BUFFER_TOO_SMALL, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_SIGNATURE_INVALID, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_FUNCTION_REJECTED, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_USER_NOT_LOGGED_IN, signer.ErrUnavailable, drops},
		{callDecrypt, 0x35, signer.ErrDecrypt, stays}, // CKR_AEAD_DECRYPT_FAILED of PKCS#11 3.0
		{callDecrypt, p11.CKR_VENDOR_DEFINED + 7, signer.ErrDecrypt, stays},
		{callDecrypt, p11.CKR_SESSION_HANDLE_INVALID, signer.ErrUnavailable, drops},
		{callDecrypt, p11.CKR_DEVICE_REMOVED, signer.ErrUnavailable, drops},
		{callDecrypt, p11.CKR_HOST_MEMORY, signer.ErrUnavailable, stays},
		{callDecrypt, p11.CKR_MECHANISM_INVALID, signer.ErrUnsupported, stays},
		{"C_DecryptInit", p11.CKR_GENERAL_ERROR, signer.ErrUnavailable, stays},
		{"C_DecryptInit", p11.CKR_DEVICE_ERROR, signer.ErrUnavailable, drops},
		{"C_DecryptInit", p11.CKR_ARGUMENTS_BAD, signer.ErrUnsupported, stays},
		{"C_SignInit", p11.CKR_KEY_HANDLE_INVALID, signer.ErrUnavailable, drops},
		{"C_SignInit", p11.CKR_KEY_TYPE_INCONSISTENT, signer.ErrUnavailable, drops},
		{"C_SignInit", p11.CKR_OBJECT_HANDLE_INVALID, signer.ErrUnavailable, drops},
		{"C_SignInit", p11.CKR_USER_NOT_LOGGED_IN, signer.ErrUnavailable, drops},
		{"C_SignInit", p11.CKR_SESSION_CLOSED, signer.ErrUnavailable, drops},
		{"C_SignInit", p11.CKR_OPERATION_ACTIVE, signer.ErrUnavailable, drops},
		{"C_SignInit", p11.CKR_KEY_FUNCTION_NOT_PERMITTED, signer.ErrUnsupported, stays},
		{"C_SignInit", p11.CKR_MECHANISM_PARAM_INVALID, signer.ErrUnsupported, stays},
		{"C_Sign", p11.CKR_FUNCTION_NOT_SUPPORTED, signer.ErrUnsupported, stays},
		{"C_Sign", p11.CKR_GENERAL_ERROR, signer.ErrUnavailable, stays},
		{"C_Sign", p11.CKR_TOKEN_NOT_PRESENT, signer.ErrUnavailable, drops},
		{"C_Sign", p11.CKR_CRYPTOKI_NOT_INITIALIZED, signer.ErrUnavailable, drops},
		{"C_Sign", p11.CKR_VENDOR_DEFINED + 7, signer.ErrUnavailable, stays},
		{"C_OpenSession", p11.CKR_SESSION_COUNT, signer.ErrUnavailable, stays},
	}
	for _, tt := range tests {
		err := callError(tt.call, tt.rv)
		if !errors.Is(err, tt.want) {
			t.Errorf("callError(%s, %v) = %v, want one that wraps %v", tt.call, tt.rv, err, tt.want)
		}
		if tt.want == signer.ErrDecrypt && err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
			t.Errorf("callError(%s, %v) = %v, want ErrDecrypt itself", tt.call, tt.rv, err)
		}
		if got := lost(err); got != tt.lost {
			t.Errorf("lost(%v) = %t, want %t", err, got, tt.lost)
		}
	}
}

func TestCallErrorPassesOthers(t *testing.T) {
	if err := callError("C_Sign", nil); err != nil {
		t.Errorf("callError of nil = %v", err)
	}
	other := errors.New("other")
	if err := callError("C_Sign", other); !errors.Is(err, other) || lost(err) {
		t.Errorf("callError of an error that is no CKR = %v", err)
	}
}
