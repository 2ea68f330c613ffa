//go:build cgo

package cryptoki

import (
	"strings"
	"testing"
)

func TestMechanismName(t *testing.T) {
	for number, want := range map[uint]string{
		0x1: "CKM_RSA_PKCS", 0x1041: "CKM_ECDSA", 0x1057: "CKM_EDDSA", 0x2109: "CKM_AES_KEY_WRAP", 0x80000001: "0x80000001",
	} {
		if got := MechanismName(number); got != want {
			t.Errorf("%#x is %s, want %s", number, got, want)
		}
	}
	seen := make(map[string]bool)
	for _, name := range mechanismNames() {
		if !strings.HasPrefix(name, "CKM_") || seen[name] {
			t.Errorf("%q is not a mechanism, or appears twice", name)
		}
		seen[name] = true
	}
}
