//go:build cgo

package interop_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A vector is one test of a Wycheproof file. Not all files have all members.
type vector struct {
	ID      int             `json:"tcId"`
	Comment string          `json:"comment"`
	Flags   []string        `json:"flags"`
	Result  string          `json:"result"` // valid, invalid or acceptable
	JWS     json.RawMessage `json:"jws"`    // a string, or an object
	JWE     json.RawMessage `json:"jwe"`
	PT      *string         `json:"pt"` // all others are hexadecimal
	Key     string          `json:"key"`
	Msg     string          `json:"msg"`
	CT      string          `json:"ct"`
	Label   string          `json:"label"`
}

type group struct {
	Comment    string         `json:"comment"`
	Private    map[string]any `json:"private"` // a JWK, or a set of them
	KeySize    int            `json:"keySize"`
	SHA        string         `json:"sha"`
	MGFSHA     string         `json:"mgfSha"`
	PrivateJWK map[string]any `json:"privateKeyJwk"`
	PKCS8      string         `json:"privateKeyPkcs8"` // hexadecimal, if there is no JWK
	Tests      []vector       `json:"tests"`
}

// wycheproofFiles are the files of Wycheproof for operations of the daemon, each with the
// function that runs a group of it.
var wycheproofFiles = []struct {
	pattern string
	run     func(t *testing.T, s *score, g group)
}{
	{"json_web_signature_test.json", runJOSE},
	{"json_web_encryption_test.json", runJOSE},
	{"json_web_key_test.json", runJOSE},
	{"json_web_crypto_test.json", runJOSE},
	{"rsa_oaep_*_test.json", runOAEP},
	{"aes_wrap_test.json", runKeyWrap("rfc3394")},
	{"aes_kwp_test.json", runKeyWrap("rfc5649")},
}

// A score counts the results of a file.
type score struct {
	total, accepted, rejected int
	skipped                   map[string]int // by reason
	backends                  map[string]int // vectors by the backend of their key
}

func (s *score) skip(n int, reason string) { s.skipped[reason] += n }

// judge compares the daemon's result with that of the vector. got is the daemon's output,
// and err the error if it gave none.
func (s *score) judge(t *testing.T, backend string, v vector, got, want string, err error) {
	t.Helper()
	s.backends[backend]++
	switch {
	case err == nil && v.Result == "invalid":
		t.Errorf("%d %s over %s: accepted, and is invalid", v.ID, v.Comment, backend)
	case err == nil && got != want:
		t.Errorf("%d %s over %s: gave %.80q, want %.80q", v.ID, v.Comment, backend, got, want)
	case err != nil && v.Result == "valid":
		t.Errorf("%d %s over %s: refused, and is valid: %v", v.ID, v.Comment, backend, err)
	case err != nil && !refuses(err):
		t.Errorf("%d %s over %s: not refused but %v", v.ID, v.Comment, backend, err)
	}

	if err == nil {
		s.accepted++
	} else {
		s.rejected++
	}
}

// refuses reports whether err is the refusal of a bad object. Any other error says nothing
// about the object.
func refuses(err error) bool {
	return errors.Is(err, errKey) || strings.HasPrefix(err.Error(), "400 ") || strings.Contains(err.Error(), `"code":"decrypt_failed"`)
}

// errKey is the refusal of a key, and so of all vectors of its group.
var errKey = errors.New("the daemon does not take the key")

// TestWycheproof runs the vectors in the folder that WYCHEPROOF names through the
// daemon: https://github.com/C2SP/wycheproof, testvectors_v1. Any difference fails.
func TestWycheproof(t *testing.T) {
	dir := os.Getenv("WYCHEPROOF")
	if dir == "" {
		t.Skip("WYCHEPROOF names no folder with Wycheproof's testvectors_v1; make wycheproof")
	}
	rows := [][]string{{"file", "vectors", "accepted", "rejected", "skipped", "in softhsm2", "in software"}}
	var reasons []string

	ran := 0
	for _, f := range wycheproofFiles {
		paths, err := filepath.Glob(filepath.Join(dir, f.pattern))
		must(t, f.pattern, err)
		if len(paths) == 0 {
			rows = append(rows, []string{f.pattern, "not there"})
		}
		for _, path := range paths {
			s := &score{skipped: map[string]int{}, backends: map[string]int{}}
			name := filepath.Base(path)
			t.Run(name, func(t *testing.T) { runFile(t, s, path, f.run) })
			skipped := 0
			for _, reason := range slices.Sorted(maps.Keys(s.skipped)) {
				skipped += s.skipped[reason]
				reasons = append(reasons, fmt.Sprintf("%s: %d skipped: %s", name, s.skipped[reason], reason))
			}
			if s.accepted+s.rejected+skipped != s.total {
				t.Errorf("%s: %d accepted, %d rejected and %d skipped of %d", name, s.accepted, s.rejected, skipped, s.total)
			}
			ran += s.accepted + s.rejected
			row := []string{name}
			for _, n := range []int{s.total, s.accepted, s.rejected, skipped, s.backends["softhsm2"], s.backends["software"]} {
				row = append(row, strconv.Itoa(n))
			}
			rows = append(rows, row)
		}
	}

	table(t, "Wycheproof", rows)
	t.Log("\n" + strings.Join(reasons, "\n"))
	if ran == 0 {
		t.Errorf("no vector was run: is %s a folder testvectors_v1?", dir)
	}
}

func runFile(t *testing.T, s *score, path string, run func(*testing.T, *score, group)) {
	data, err := os.ReadFile(path)
	must(t, "vectors", err)
	var file struct {
		NumberOfTests int
		TestGroups    []group
	}

	must(t, path, json.Unmarshal(data, &file))
	for _, g := range file.TestGroups {
		s.total += len(g.Tests)
		run(t, s, g)
	}
	if s.total != file.NumberOfTests {
		t.Errorf("%d vectors, and the file says %d", s.total, file.NumberOfTests)
	}
}

// text returns a JWS or JWE in the form that the daemon takes: JSON is put in a string.
func text(object json.RawMessage) string {
	var s string
	if json.Unmarshal(object, &s) == nil {
		return s
	}
	return string(object)
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	must(t, "hexadecimal", err)
	return data
}
