//go:build cgo

package pkcs11

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// codes returns the findings of an inspection, each as its severity and code.
func codes(in *inspection) []string {
	got := []string{}
	for _, f := range in.Findings {
		got = append(got, string(f.Severity)+" "+f.Code)
	}
	return got
}

func TestCheckAttributes(t *testing.T) {
	good := map[string]bool{
		"CKA_PRIVATE": true, "CKA_SENSITIVE": true, "CKA_ALWAYS_SENSITIVE": true, "CKA_EXTRACTABLE": false, "CKA_NEVER_EXTRACTABLE": true,
		"CKA_SIGN": true, "CKA_DECRYPT": false, "CKA_UNWRAP": false, "CKA_DERIVE": false, "CKA_ALWAYS_AUTHENTICATE": false,
	}

	tests := []struct {
		name string
		typ  string
		set  map[string]bool
		want []string
	}{
		{"good", "RSA-2048", nil, []string{}},
		{"extractable", "RSA-2048", map[string]bool{"CKA_EXTRACTABLE": true, "CKA_NEVER_EXTRACTABLE": false}, []string{"fail key-extractable"}},
		{"not sensitive", "RSA-2048", map[string]bool{"CKA_SENSITIVE": false, "CKA_ALWAYS_SENSITIVE": false}, []string{"fail key-not-sensitive"}},
		{"was not sensitive", "RSA-2048", map[string]bool{"CKA_ALWAYS_SENSITIVE": false}, []string{"warn key-imported"}},
		{"was extractable", "RSA-2048", map[string]bool{"CKA_NEVER_EXTRACTABLE": false}, []string{"warn key-imported"}},
		{"not private", "RSA-2048", map[string]bool{"CKA_PRIVATE": false}, []string{"fail key-not-private"}},
		{"decrypts too", "RSA-2048", map[string]bool{"CKA_DECRYPT": true}, []string{"warn key-two-uses"}},
		{"unwraps too", "RSA", map[string]bool{"CKA_UNWRAP": true}, []string{"warn key-two-uses"}},
		{"an EC key cannot decrypt", "EC P-256", map[string]bool{"CKA_DECRYPT": true, "CKA_UNWRAP": true}, []string{}},
		{"derives too", "EC P-256", map[string]bool{"CKA_DERIVE": true}, []string{"warn key-two-uses"}},
		{"the PIN each time", "EC P-256", map[string]bool{"CKA_ALWAYS_AUTHENTICATE": true}, []string{"warn key-always-authenticate"}},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := maps.Clone(good)
			maps.Copy(a, tt.set)
			in := newInspection(Config{}, nil)
			in.checkAttributes("key", KeyReport{Type: tt.typ, Attributes: a})
			if d := cmp.Diff(tt.want, codes(in)); d != "" {
				t.Error(d)
			}
		})
	}
	in := newInspection(Config{}, nil)
	in.checkAttributes("key", KeyReport{Type: "RSA"}) // a token that tells nothing
	if len(in.Findings) != 0 {
		t.Errorf("what is not told is a finding: %v", in.Findings)
	}
}

func TestCheckSessions(t *testing.T) {
	number := func(n uint) *uint { return &n }
	tests := []struct {
		name      string
		limit     *uint
		open      *uint
		sessions  int
		want      []string
		wantUsing int
	}{
		{"as many as one likes", number(0), number(500), 4, []string{}, 4},
		{"not told", nil, nil, 4, []string{}, 4},
		{"enough", number(9), number(0), 4, []string{}, 4},
		{"not for a reload", number(8), number(0), 4, []string{"warn sessions"}, 4},
		{"fewer than configured", number(4), nil, 4, []string{"warn sessions"}, 3},
		{"one", number(1), nil, 4, []string{"fail sessions"}, 1},
		{"taken by others", number(20), number(16), 4, []string{"warn sessions-busy"}, 4},
		{"just free", number(20), number(15), 4, []string{}, 4},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := newInspection(Config{Token: "t", Sessions: tt.sessions}, nil)
			var limit uint
			if tt.limit != nil {
				limit = *tt.limit
			}
			token := &TokenReport{Sessions: SessionsReport{Max: tt.limit, Open: tt.open, Configured: in.cfg.sessions(limit)}}
			in.checkSessions(token)
			if d := cmp.Diff(tt.want, codes(in)); d != "" {
				t.Error(d)
			}
			if token.Sessions.Configured != tt.wantUsing {
				t.Errorf("%d sessions used, want %d", token.Sessions.Configured, tt.wantUsing)
			}
		})
	}
}

// In none of these states is a PIN shown to the token.
func TestCheckPIN(t *testing.T) {
	tests := []struct {
		pin  PINReport
		want []string
	}{
		{PINReport{Initialized: true}, []string{"warn login"}}, // there is no PIN file
		{PINReport{}, []string{"fail pin-missing"}},
		{PINReport{Initialized: true, Locked: true, FinalTry: true}, []string{"fail pin-locked"}},
		{PINReport{Initialized: true, FinalTry: true, CountLow: true}, []string{"fail pin-final-try"}},
	}

	for _, tt := range tests {
		in := newInspection(Config{Token: "t"}, nil)
		token := &TokenReport{PIN: tt.pin}
		in.checkPIN(token)
		if in.mayLogIn(token) {
			t.Errorf("%+v: it would log in", tt.pin)
		}
		if got := codes(in); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.pin, got, tt.want)
		}
	}
}
