package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"signetd/daemon/api"
	"signetd/signer"
)

const (
	apiDoc = "../docs/api/README.md"
	opsDoc = "../docs/operations.md"
)

// What the code has, the documents name: each name has the given form in the document.
func TestDocsNameWhatTheCodeHas(t *testing.T) {
	var paths, ops, grantable []string
	for _, r := range api.Routes {
		if !strings.Contains(r.Path, "{") { // it is described with the path that it is below
			paths = append(paths, r.Path)
		}
		for _, op := range []api.Op{r.Op, r.Keyless} {
			if op != "" {
				ops, grantable = append(ops, string(op)), append(grantable, string(op))
			}
		}
	}
	ops = append(ops, string(api.OpNone))

	tests := []struct {
		what      string
		names     []string
		doc, form string
	}{
		{"path", paths, apiDoc, "(?m)^### (GET|POST) %s$"},
		{"example of path", paths, apiDoc, `(?m)^\$ .*http://signetd%s\b`},
		{"op", ops, apiDoc, "`%s`"},
		{"op to grant", grantable, opsDoc, "(?m)^\\| `%s` \\|"},
		{"member", find(t, "api/*.go", "json:\"([a-z_]+)", 50), apiDoc, "[`\"]%s[`\"]"},
		{"error code", find(t, "../signer/errors.go", `\{(?:Err|context)[\w.]+, "(\w+)"\}`, 9), apiDoc, "(?m)^\\| `%s` \\| \\d{3}"},
		{"metric", append(find(t, "metrics.go", `Name: "(\w+)"`, 9), find(t, "server/*.go", `Name: "(signetd_\w+)"`, 1)...), opsDoc, "(?m)^\\| `%s` \\|"},
		{"audit member", find(t, "audit/audit.go", "json:\"([a-z_0-9]+)", 15), opsDoc, "`%s`"},
	}
	for _, tt := range tests {
		doc := text(t, tt.doc)
		for _, name := range tt.names {
			if !regexp.MustCompile(fmt.Sprintf(tt.form, regexp.QuoteMeta(name))).MatchString(doc) {
				t.Errorf("%s lacks the %s %q", tt.doc, tt.what, name)
			}
		}
	}
}

// find returns what a pattern finds in the source: at least least names, so that a pattern
// that finds nothing fails.
func find(t *testing.T, source, pattern string, least int) (names []string) {
	t.Helper()
	for _, found := range regexp.MustCompile(pattern).FindAllStringSubmatch(sources(t, source), -1) {
		names = append(names, found[1])
	}
	if len(names) < least {
		t.Errorf("found %d names in %s, want %d or more", len(names), source, least)
	}
	return names
}

// The statuses in the error table are those of request.go, and the codes are all
// that there are.
func TestAPIDocStatuses(t *testing.T) {
	doc, code := text(t, apiDoc), text(t, "request.go")
	tests := []struct {
		code, name string // name is that of net/http
		status     int
		retry      bool
	}{
		{"invalid", "BadRequest", 400, false},
		{"denied", "Forbidden", 403, false},
		{"not_found", "NotFound", 404, false},
		{"unsupported", "UnprocessableEntity", 422, false},
		{"decrypt_failed", "UnprocessableEntity", 422, false},
		{"overloaded", "TooManyRequests", 429, true},
		{"unavailable", "ServiceUnavailable", 503, true},
		{"deadline", "GatewayTimeout", 504, false},
		{signer.CodeInternal, "InternalServerError", 500, false},
	}
	var known []string
	for _, tt := range tests {
		known = append(known, tt.code)
		inCode := regexp.MustCompile(`(?:"` + tt.code + `"|signer\.CodeInternal):\s+http\.Status` + tt.name + `,`)
		if !inCode.MatchString(code) {
			t.Errorf("request.go does not answer code %s with status %s", tt.code, tt.name)
		}
		row := fmt.Sprintf("| `%s` | %d", tt.code, tt.status)
		_, rest, found := strings.Cut(doc, row)
		line, _, _ := strings.Cut(rest, "\n")
		cell, _, _ := strings.Cut(line, "|")
		if !found || strings.Contains(cell, "Retry-After") != tt.retry {
			t.Errorf("%s: want a row that begins with %q and says Retry-After: %t, have %q", apiDoc, row, tt.retry, cell)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| \\d{3}").FindAllStringSubmatch(doc, -1) {
		if !slices.Contains(known, row[1]) {
			t.Errorf("%s has an error code %q that this test does not know", apiDoc, row[1])
		}
	}
}

// sources is the text of the files that match.
func sources(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var all string
	for _, name := range names {
		all += text(t, name)
	}
	return all
}

func text(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
