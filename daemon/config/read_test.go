package config

import (
	"os"
	"strings"
	"testing"
)

func TestParseOddities(t *testing.T) {
	tests := []struct{ name, config, want string }{
		{"octal mode", "socket: {mode: 0660}", "c:1:16: is not a plain whole number"},
		{"octal mode of YAML 1.2", "socket:\n  mode: 0o660", "c:2:9: is not a plain whole number"},
		{"octal uid", "grants: [{peer: {user: 0100}}]", "c:1:24: is not a plain whole number"},
		{"hexadecimal uid", "grants: [{peer: {user: 0x64}}]", "c:1:24: is not a plain whole number"},
		{"kid of digits", "keys: [{versions: [{kid: 0123}]}]", "c:1:26: is not a plain whole number"},
		{"claim rules without any", "keys:\n  - name: oidc\n    jwt:\n    use: sig", "has no value"},
		{"null", "keys: [{name: oidc, jwt: ~}]", "c:1:26: has no value"},
		{"anchor", "audit: &a {path: /x}", "anchors"},
		{"member twice", "audit: {path: /x}\naudit: {path: /y}", "already defined"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parse("c", tt.config); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse(%q) = %v, want an error with %q", tt.config, err, tt.want)
			}
		})
	}
}

func TestSocketMode(t *testing.T) {
	for text, want := range map[string]os.FileMode{`"0660"`: 0o660, `'0600'`: 0o600, "660": 0o660} {
		f, err := parse("c", "socket: {path: /x, mode: "+text+"}\naudit: {path: /x}\ngrants: [{peer: {user: 0}}]")
		if err != nil {
			t.Fatal(err)
		}
		if c, err := f.Settings(); err != nil || c.Socket.Mode != want {
			t.Errorf("mode %s is read as %v, %v; want %v", text, c.Socket.Mode, err, want)
		}
	}
}
