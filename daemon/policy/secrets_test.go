package policy

import "testing"

// TestSecretNamesAreNormal: every name in the lists is normalized, because find could not
// find it otherwise.
func TestSecretNamesAreNormal(t *testing.T) {
	for _, name := range append(append([]string{}, secretNames...), secretEndings...) {
		if normalize(name) != name {
			t.Errorf("%q is %q when normalized", name, normalize(name))
		}
	}
}
