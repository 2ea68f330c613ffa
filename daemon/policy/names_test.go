package policy

import (
	"testing"
	"unicode"
)

// TestFolding: letters that Unicode's simple case folding, and with it
// encoding/json, takes for the same are the same, for every letter that there is.
func TestFolding(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if 0xd800 <= r && r < 0xe000 {
			continue
		}
		own := string(appendFolded(nil, []byte(string(r))))
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			if got := string(appendFolded(nil, []byte(string(other)))); got != own {
				t.Errorf("%U is %q and %U is %q", r, own, other, got)
			}
		}
	}
}

// TestSecretNamesAreNormal: a name in the list that normalize would change could
// never be found.
func TestSecretNamesAreNormal(t *testing.T) {
	for _, name := range append(append([]string{}, secretNames...), secretEndings...) {
		if normalize(name) != name {
			t.Errorf("%q is %q when normalized", name, normalize(name))
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"api", "https://api.example.com/*", "urn:example:*", "https://*", "*", "a*b*", "tenant_4_*", "x/../*"} {
		f.Add(s, "https://api.example.com/v1", s)
	}
	f.Fuzz(func(t *testing.T, wide, value, narrow string) {
		p, err := parsePattern(wide)
		if err != nil {
			return
		}
		if p.matches(value) && value != wide && (!p.prefix || len(value) <= len(p.text) || value[:len(p.text)] != p.text) {
			t.Fatalf("%q matches %q", wide, value)
		}
		q, err := parsePattern(narrow)
		if err == nil && p.covers(q) && q.matches(value) && !p.matches(value) {
			t.Fatalf("%q covers %q, and does not match %q as that does", wide, narrow, value)
		}
	})
}
