package policy

import "testing"

// FuzzPattern: a prefix matches only longer texts that begin with it, and a pattern
// matches whatever a pattern that it covers matches.
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

// TestSecretNamesAreNormal: every name in the lists is normalized, because find could not
// find it otherwise.
func TestSecretNamesAreNormal(t *testing.T) {
	for _, name := range append(append([]string{}, secretNames...), secretEndings...) {
		if normalize(name) != name {
			t.Errorf("%q is %q when normalized", name, normalize(name))
		}
	}
}
