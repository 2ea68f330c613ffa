//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto/ed25519"
	"testing"
)

// CKA_EC_POINT of Ed25519 comes in three forms.
func TestParseEd25519(t *testing.T) {
	point := bytes.Repeat([]byte{7}, 32)
	derLike := append([]byte{4, 30}, bytes.Repeat([]byte{7}, 30)...) // bare, and looks like an OCTET STRING

	tests := []struct {
		name string
		v    []byte
		want []byte
	}{
		{"bare", point, point},
		{"bare, like DER", derLike, derLike},
		{"OCTET STRING", append([]byte{0x04, 32}, point...), point},
		{"BIT STRING", append([]byte{0x03, 33, 0}, point...), point},
		{"empty", nil, nil},
		{"short", point[1:], nil},
		{"a short OCTET STRING", append([]byte{0x04, 31}, point[1:]...), nil},
		{"more after it", append(append([]byte{0x04, 32}, point...), 0), nil},
		{"spare bits", append([]byte{0x03, 33, 1}, bytes.Repeat([]byte{8}, 32)...), nil},
		{"a SEQUENCE", append([]byte{0x30, 32}, point...), nil},
	}

	for _, tt := range tests {
		got, err := parseEd25519(tt.v)
		if (err == nil) != (tt.want != nil) || err == nil && !got.Equal(ed25519.PublicKey(tt.want)) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}
