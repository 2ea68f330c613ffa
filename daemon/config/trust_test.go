package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signetd/signer"
)

const ecJWK = `{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}`

// TestTrustBounds: a set has a bound, and so has its file.
func TestTrustBounds(t *testing.T) {
	huge := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(huge, make([]byte, maxJWKS+1), 0o600); err != nil {
		t.Fatal(err)
	}
	many := `{"keys":[` + strings.Repeat(ecJWK+",", 64) + ecJWK + `]}`
	if set, err := signer.ParseJWKSet([]byte(many)); err == nil {
		t.Errorf("ParseJWKSet() of 65 keys = %d keys", len(set.Keys))
	}
	if _, err := readJWKS(huge); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("readJWKS(huge) = %v, want an error", err)
	}
}
