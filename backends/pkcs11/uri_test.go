package pkcs11

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"signetd/signer"
)

func TestParseURI(t *testing.T) {
	tests := []struct {
		uri  string
		want URI
	}{
		{"pkcs11:object=oidc-2026-11;type=private", URI{Object: "oidc-2026-11", Type: TypePrivate}},
		{"pkcs11:type=secret-key;object=mac", URI{Object: "mac", Type: TypeSecret}},
		{"pkcs11:id=%01%02%ff", URI{ID: "\x01\x02\xff"}},
		{"pkcs11:id=abc", URI{ID: "abc"}},
		{"pkcs11:token=my%20token;serial=0a1b;object=k;id=%00", URI{Token: "my token", Serial: "0a1b", Object: "k", ID: "\x00"}},
		{"pkcs11:object=k%C3%a4se", URI{Object: "käse"}},
		{"pkcs11:object=a=b&c,d@e", URI{Object: "a=b&c,d@e"}},
		{"pkcs11:object=%3b%3F%25", URI{Object: ";?%"}},
	}

	for _, tt := range tests {
		got, err := ParseURI(tt.uri)
		if err != nil {
			t.Errorf("ParseURI(%q): %v", tt.uri, err)
			continue
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("ParseURI(%q) (-want +got):\n%s", tt.uri, d)
		}
		if again, err := ParseURI(got.String()); err != nil || again != got {
			t.Errorf("ParseURI(%q) = %v, %v, want %v", got.String(), again, err, got)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	tests := []struct{ name, uri, words string }{
		{"nothing", "", "scheme is not pkcs11"},
		{"another scheme", "file:/key.pem", "scheme is not pkcs11"},
		{"no attribute", "pkcs11:", "no value"},
		{"neither object nor id", "pkcs11:token=t;type=private", "object or id"},
		{"an empty object", "pkcs11:object=", "object is empty"},
		{"an empty attribute", "pkcs11:object=k;", "no value"},
		{"a public key", "pkcs11:object=k;type=public", "type is neither"},
		{"a duplicate", "pkcs11:object=k;object=l", "object appears twice"},
		{"a duplicate type", "pkcs11:object=k;type=private;type=private", "type appears twice"},
		{"an unknown attribute", "pkcs11:object=k;colour=red", "unknown attribute colour"},
		{"an attribute in capitals", "pkcs11:OBJECT=k", "malformed name"},
		{"an unsupported attribute", "pkcs11:object=k;slot-id=3", "slot-id is not supported"},
		{"an unsupported attribute", "pkcs11:object=k;manufacturer=m", "manufacturer is not supported"},
		{"a module path", "pkcs11:object=k?module-path=/lib.so", "module-path is not supported"},
		{"another query", "pkcs11:object=k?x=y", "query part"},
		{"an empty query", "pkcs11:object=k?", "query part"},
		{"a space", "pkcs11:object=a b", "object: a character"},
		{"a slash", "pkcs11:object=a/b", "object: a character"},
		{"a cut escape", "pkcs11:object=a%2", "object: a character"},
		{"a bad escape", "pkcs11:object=a%zz", "hexadecimal"},
		{"no UTF-8", "pkcs11:object=%ff", "not UTF-8"},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseURI(tt.uri)
			if !errors.Is(err, signer.ErrInvalid) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("ParseURI(%q) = %v, want ErrInvalid with %q", tt.uri, err, tt.words)
			}
		})
	}
}

func TestParseURIHidesPIN(t *testing.T) {
	for _, uri := range []string{
		"pkcs11:object=k?pin-value=hunter2",
		"pkcs11:object=k?pin-source=file:/hunter2",
		"pkcs11:object=hunter2;pin-value=hunter2",
		"pkcs11:object=k?PIN-VALUE=hunter2",
		"hunter2:pin-value",
		"pkcs11:hunter2=x;object=k?x=y&pin-value=hunter2",
	} {
		_, err := ParseURI(uri)
		if !errors.Is(err, errPIN) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseURI(%q) = %v, want the one error for PINs", uri, err)
		}
	}
}

// FuzzParseURI checks that String of a URI parses to the same URI, and that no error shows
// a PIN.
func FuzzParseURI(f *testing.F) {
	f.Add("pkcs11:object=oidc-2026-11;type=private", "1234")
	f.Add("pkcs11:token=a%20b;id=%01%ff;serial=1", "%31")
	f.Add("pkcs11:object=a=b&c", "x&y;z")
	f.Add("pkcs11:object=%", "")

	f.Fuzz(func(t *testing.T, s, pin string) {
		if u, err := ParseURI(s); err == nil {
			again, err := ParseURI(u.String())
			if err != nil || again != u {
				t.Fatalf("ParseURI(%q) = %#v, %v, want %#v", u.String(), again, err, u)
			}
		} else if !errors.Is(err, signer.ErrInvalid) {
			t.Fatalf("ParseURI(%q) = %v, want ErrInvalid", s, err)
		}

		// One fixed text for all of them cannot show any of them.
		want := signer.ErrInvalid.Error() + ": pkcs11 URI: " + errPIN.Error()
		for _, uri := range []string{s + "?pin-value=" + pin, s + ";pin-value=" + pin, "pkcs11:object=k?pin-source=" + pin} {
			if _, err := ParseURI(uri); err == nil || err.Error() != want {
				t.Fatalf("ParseURI(%q) = %v, want %q", uri, err, want)
			}
		}
	})
}
