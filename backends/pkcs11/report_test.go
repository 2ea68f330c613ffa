package pkcs11

import (
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	tests := []struct {
		severities []Severity
		want       Severity
	}{
		{nil, OK},
		{[]Severity{OK, OK}, OK},
		{[]Severity{OK, Warn, OK}, Warn},
		{[]Severity{Warn, Fail, OK}, Fail},
		{[]Severity{Fail, Warn}, Fail},
	}
	for _, tt := range tests {
		var r Report
		for _, s := range tt.severities {
			r.find(s, "code", "subject", "problem", "")
		}
		if got := r.Verdict(); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.severities, got, tt.want)
		}
	}
}

func TestMechanismName(t *testing.T) {
	for number, want := range map[uint64]string{
		0x1: "CKM_RSA_PKCS", 0x1041: "CKM_ECDSA", 0x1057: "CKM_EDDSA", 0x2109: "CKM_AES_KEY_WRAP", 0x80000001: "0x80000001",
	} {
		if got := mechanismName(number); got != want {
			t.Errorf("%#x is %s, want %s", number, got, want)
		}
	}
	seen := make(map[string]bool)
	for _, name := range mechanismNames() {
		if !strings.HasPrefix(name, "CKM_") || seen[name] {
			t.Errorf("%q: no name of a mechanism, or there twice", name)
		}
		seen[name] = true
	}
}
