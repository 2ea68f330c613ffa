package pkcs11

import (
	"runtime"
	"testing"
)

func TestConfigSessions(t *testing.T) {
	byDefault := 4 * runtime.NumCPU()
	tests := []struct {
		config int
		limit  uint
		want   int
	}{
		{0, 0, byDefault},
		{8, 0, 8},
		{8, 4, 3},        // one keeps the login
		{8, 1, 1},        // opening it will fail with CKR_SESSION_COUNT
		{8, ^uint(0), 8}, // CK_UNAVAILABLE_INFORMATION
		{0, 1 << 20, byDefault},
	}

	for _, tt := range tests {
		if got := (Config{Sessions: tt.config}).sessions(tt.limit); got != tt.want {
			t.Errorf("sessions %d on a token that allows %d: %d, want %d", tt.config, tt.limit, got, tt.want)
		}
	}
}
