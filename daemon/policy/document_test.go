package policy

import (
	"testing"
	"unicode"
)

// TestFolding: letters that are equal under Unicode's simple case folding, which
// encoding/json uses, are folded to the same letter.
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
