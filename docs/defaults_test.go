package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"signetd/backends"
	"signetd/backends/cloud"
	"signetd/daemon"
	"signetd/daemon/config"
	"signetd/daemon/policy"
)

// defaults are the values that members of the config have if they are left out. A member
// is named by its section and its name, such as "limits.connections".
type defaults map[string]string

// TestDefaults: the manual, the API's page, the example configs and the comments of the config's types
// give the defaults that the code has. A member of the code with a default is in the
// manual, and a default in the manual is that of a member of the code.
func TestDefaults(t *testing.T) {
	inCode := codeDefaults(t)

	inManual := manualDefaults(t)
	for member, want := range inCode {
		if got := inManual[member]; got != want {
			t.Errorf("operations.md has %q as the default of %s, and the code has %q", got, member, want)
		}
	}
	for member, text := range inManual {
		if _, ok := inCode[member]; !ok && isValue(text) {
			t.Errorf("operations.md has the default %q for %s, and the code has none that this test knows", text, member)
		}
	}

	for _, place := range slices.Concat(exampleDefaults(t), apiDefaults(t), commentDefaults(t)) {
		want, ok := inCode[place.member]
		if !ok && isValue(place.text) {
			t.Errorf("%s has the default %q for %s, and the code has none that this test knows", place.where, place.text, place.member)
		}
		if ok && place.text != want && (place.text != "off" || want != "false") {
			t.Errorf("%s has %q as the default of %s, and the code has %q", place.where, place.text, place.member, want)
		}
	}
}

// isValue reports whether a default in a document is a value, and not a sentence about
// where the value comes from.
func isValue(text string) bool {
	words := []string{"", "required", "none", "off", "any", "never", "anything"}
	return !slices.Contains(words, text) && !strings.ContainsAny(text, " '")
}

// A place is a default in a document other than the manual.
type place struct{ where, member, text string }

// codeDefaults asks the code for its defaults.
func codeDefaults(t *testing.T) defaults {
	t.Helper()
	d := defaults{}

	// A config that leaves out what can be left out.
	file, _, err := config.Parse[backends.Config]("test.yaml", []byte("socket: {path: /s}\naudit: {path: /a}\n"))
	if err != nil {
		t.Fatal(err)
	}
	settings, err := file.Settings()
	if err != nil {
		t.Fatal(err)
	}
	d["socket.mode"] = fmt.Sprintf("%04o", settings.Socket.Mode)
	d["audit.sync"] = string(settings.Audit.Sync)
	d["insecure_software_keys"] = fmt.Sprint(file.InsecureSoftwareKeys)
	for _, level := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug} {
		if settings.Log.Enabled(t.Context(), level) {
			d["log.level"] = strings.ToLower(level.String())
		}
	}
	switch h := settings.Log.Handler().(type) {
	case *slog.TextHandler:
		d["log.format"] = "text"
	case *slog.JSONHandler:
		d["log.format"] = "json"
	default:
		t.Fatalf("the log has a handler of type %T", h)
	}

	limits := reflect.ValueOf(daemon.Limits{}.WithDefaults())
	for i := range limits.NumField() {
		d["limits."+limits.Type().Field(i).Tag.Get("yaml")] = fmt.Sprint(limits.Field(i).Interface())
	}

	d["jwt.policy"] = string(policy.Enforce)
	d["jwt.skew"] = short(policy.DefaultSkew)
	d["jwt.typ"] = policy.DefaultTyp
	d["jwt.max_bytes"] = strconv.Itoa(policy.DefaultMaxBytes)
	d["jwt.max_depth"] = strconv.Itoa(policy.DefaultMaxDepth)
	d["jwt.ttl"] = "max_ttl" // TestTTLIsMaxTTL of this file
	d["issuers.skew"] = short(policy.DefaultSkew)
	d["keys.verify"] = "true"
	d["grants.bypass_claim_policy"] = "false"

	for _, backend := range []string{"awskms", "gcpkms"} {
		d[backend+".attempts"] = strconv.Itoa(cloud.DefaultAttempts)
		d[backend+".attempt_timeout"] = short(cloud.DefaultAttemptTimeout)
	}
	d["awskms.fips"], d["gcpkms.plaintext"], d["pkcs11.hold_cek"] = "false", "false", "false"

	// These are not exported, so the test reads the source.
	source := backendSources(t)
	d["pkcs11.queue"] = match(t, source, `defaultQueue += (\d+)`)
	factor := match(t, source, `(\d+) ?\* ?runtime\.NumCPU\(\)`)
	d["pkcs11.sessions"] = map[string]string{"1": "the number of CPUs", "2": "twice the number of CPUs", "4": "four times the number of CPUs"}[factor]
	for member, class := range map[string]string{"rsa": "RSA", "ecc": "ECC", "ml_dsa": "MLDSA", "symmetric": "Symmetric"} {
		d["awskms."+member] = match(t, source, `defaultRates = .*\bclass`+class+`: (\d+)`)
	}
	d["awskms.session_name"] = match(t, source, `cmp\.Or\(\w+\.SessionName, "(\w+)"\)|SessionName = "(\w+)"`)
	d["gcpkms.endpoint"] = "cloudkms.googleapis.com:443" // the SDK's, which exports no name for it
	return d
}

// TestTTLIsMaxTTL: a token for which the request asks no lifetime gets max_ttl.
func TestTTLIsMaxTTL(t *testing.T) {
	rules, err := (&policy.JWT{Issuer: "i", Audiences: []string{"a"}, MaxTTL: time.Hour}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	claims, err := rules.Apply(policy.ClaimsRequest{Claims: []byte(`{"aud":"a"}`)}, now)
	if err != nil || claims.Exp.Sub(now) != time.Hour {
		t.Errorf("Apply() = %+v, %v, want claims that expire after max_ttl", claims, err)
	}
}

// TestClientDefaults: the comments of the Go client give the timeout that the code has.
func TestClientDefaults(t *testing.T) {
	source := read(t, "../daemon/client/client.go")
	says, is := match(t, source, `Optional: (\d+) seconds`), match(t, source, `defaultTimeout = (\d+) \* time\.Second`)
	if says != is {
		t.Errorf("the comment says %s seconds, and the code has %s", says, is)
	}
}

// TestFixedLimits: the documents give the limits that no config can change as the code has
// them.
func TestFixedLimits(t *testing.T) {
	var source strings.Builder
	for _, path := range goFiles(t, "../daemon") {
		source.WriteString(read(t, path))
	}
	code := source.String()

	for _, limit := range []struct{ page, says, is string }{
		{"api/README.md", `\| time for the peer to read the answer \| (\d+) s \|`, `writeTimeout = (\d+) \* time\.Second`},
		{"api/README.md", `\| a connection without a request \| (\d+) min \|`, `idleTimeout = (\d+) \* time\.Minute`},
		{"api/README.md", `a second for one user, after a first (\d+) \|`, `refusalBurst = (\d+)\n`},
		{"operations.md", `after a burst of (\d+),`, `refusalBurst = (\d+)\n`},
		{"api/README.md", `\| request line and headers \| (\d+) KiB`, `maxHeader = (\d+) << 10`},
		{"api/README.md", `non-empty string of at most (\d+) bytes`, `MaxJTI = (\d+)`},
		{"operations.md", `and ` + "`claim`" + `, (\d+) at most`, `maxWould = (\d+)`},
		{"operations.md", `where the claims are 1; (\d+) at most`, `maxDepth = (\d+)`},
	} {
		says, is := match(t, read(t, limit.page), limit.says), match(t, code, limit.is)
		if says != is {
			t.Errorf("%s says %s where it matches %s, and the code has %s", limit.page, says, limit.says, is)
		}
	}
}

// short writes a duration as configs do: "1m", not "1m0s".
func short(d time.Duration) string {
	return strings.TrimSuffix(d.String(), "0s")
}

var (
	heading     = regexp.MustCompile("^###+ (.+)$|^`(pkcs11|awskms|gcpkms)`")
	manualRow   = regexp.MustCompile("^\\| ((?:`\\w+`(?:, )?)+) \\| ([^|]*) \\| ")
	defaultIs   = regexp.MustCompile("^`(true|false)`.*; the default is `(\\w+)`")
	bareDefault = regexp.MustCompile("the default is `(\\w+)`")
)

// manualDefaults reads the tables with a column for defaults in operations.md.
func manualDefaults(t *testing.T) defaults {
	t.Helper()
	_, text, _ := strings.Cut(read(t, "operations.md"), "\n## Config\n")
	text, _, _ = strings.Cut(text, "\n## Check\n")

	d := defaults{}
	section, hasDefaults := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch m := heading.FindStringSubmatch(line); {
		case m != nil && m[1] == "Claim policy":
			section = "jwt"
		case m != nil:
			section = m[1] + m[2]
		case strings.HasPrefix(line, "| member |"):
			hasDefaults = strings.HasPrefix(line, "| member | default |")
		}

		if m := bareDefault.FindStringSubmatch(line); m != nil && !strings.HasPrefix(line, "|") {
			d[section] = m[1] // a section that is a member itself
		}
		row := manualRow.FindStringSubmatch(line)
		switch {
		case row != nil && hasDefaults:
			for name := range strings.SplitSeq(row[1], ", ") {
				d[section+"."+strings.Trim(name, "`")] = plain(row[2])
			}
		case strings.HasPrefix(line, "| `"):
			name, rest, _ := strings.Cut(strings.TrimPrefix(line, "| `"), "` | ")
			if m := defaultIs.FindStringSubmatch(rest); m != nil {
				d[section+"."+name] = m[2]
			}
		}
	}
	if len(d) < 50 {
		t.Fatalf("found %d members in operations.md, want more", len(d))
	}
	return d
}

// plain removes the marks around a value.
func plain(text string) string {
	return strings.Trim(strings.TrimSpace(text), "`\"")
}

var (
	exampleLine  = regexp.MustCompile(`^( *(?:- )?)([a-z_0-9]+):(?: ([^#]*?))? *(?:# (.*))?$`)
	exampleThis  = regexp.MustCompile(`(?:^|[;,] )default$`)
	exampleOther = regexp.MustCompile(`default:? ([^;]+)$`)
)

// exampleDefaults reads the comments of the example configs. In them "default" at the end
// means that the line has the default, and "default X" that X is it.
func exampleDefaults(t *testing.T) []place {
	t.Helper()
	sections := []string{
		"socket", "limits", "audit", "log", "keys", "issuers", "recipients", "grants", "backends",
		"pkcs11", "awskms", "gcpkms", "jwt", "versions",
	}

	var places []place
	for _, name := range []string{"signetd.yaml", "awskms.yaml", "gcpkms.yaml"} {
		type open struct {
			indent  int
			section string
		}
		var stack []open // the sections around a line, innermost last
		for i, line := range strings.Split(read(t, "../deploy/examples/"+name), "\n") {
			m := exampleLine.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			indent, member := len(m[1]), m[2]
			for len(stack) > 0 && stack[len(stack)-1].indent >= indent {
				stack = stack[:len(stack)-1]
			}
			path := member
			if len(stack) > 0 {
				path = stack[len(stack)-1].section + "." + member
			}

			where := fmt.Sprintf("%s:%d", name, i+1)
			if exampleThis.MatchString(m[4]) {
				places = append(places, place{where, path, normal(m[3])})
			} else if other := exampleOther.FindStringSubmatch(m[4]); other != nil {
				places = append(places, place{where, path, normal(other[1])})
			}
			if slices.Contains(sections, member) {
				stack = append(stack, open{indent, member})
			}
		}
	}
	if len(places) < 40 {
		t.Fatalf("found %d defaults in the examples, want more", len(places))
	}
	return places
}

// apiDefaults reads the limits in the API's page. Each pattern must match.
func apiDefaults(t *testing.T) []place {
	t.Helper()
	text := read(t, "api/README.md")
	var places []place
	for _, limit := range []struct{ member, pattern string }{
		{"request_bytes", `\| body \| ([^|]+) \|`},
		{"timeout", `\| time for a request to arrive \| ([^|]+) \|`},
		{"timeout", `\| time for the work \| ([^|]+) \|`},
		{"connections", `\| connections \| (\d+), and half of them for one user \|`},
		{"in_flight", `\| requests in flight \| (\d+), and \d+ for one user \|`},
		{"per_peer", `\| requests in flight \| \d+, and (\d+) for one user \|`},
		{"batch", `\| requests in one batch \| (\d+) \|`},
		{"batch", `with 1 to (\d+)\s+requests`},
		{"refusals", `\| denied or invalid requests \| (\d+) a second for one user`},
	} {
		places = append(places, place{"api/README.md", "limits." + limit.member, normal(match(t, text, limit.pattern))})
	}
	return places
}

// normal gives a value the form that the manual has: a duration such as "1500ms" becomes
// "1.5s", and "1 MiB" a number of bytes.
func normal(text string) string {
	text = plain(text)
	text = strings.ReplaceAll(text, "1 MiB", strconv.Itoa(1<<20))
	if d, err := time.ParseDuration(strings.ReplaceAll(text, " s", "s")); err == nil && text != "0" {
		return short(d)
	}
	return text
}

// types are the types that a config is read into, with the names of their sections.
var types = map[string]string{
	"daemon.Limits": "limits", "config.Socket": "socket", "config.Audit": "audit", "config.Log": "log", "config.Key": "keys",
	"config.Version": "versions", "config.Issuer": "issuers", "config.Recipient": "recipients",
	"policy.JWT": "jwt", "policy.Accept": "issuers", "policy.Grant": "grants",
	"pkcs11.Config": "pkcs11", "awskms.Config": "awskms", "awskms.AssumeRole": "awskms", "awskms.Rates": "awskms", "gcpkms.Config": "gcpkms",
}

// commentForms are the ways in which the comments of these types give a default.
var commentForms = []*regexp.Regexp{
	regexp.MustCompile(`\(default ([^)]+)\)`),
	regexp.MustCompile(`(\w+) \(default\)`),
	regexp.MustCompile(`Optional: ([^:;,]+?) by default`),
	regexp.MustCompile(`Optional: ([\w.:]+?)\.?$`),
	regexp.MustCompile(`"(\d+)" if absent`),
	regexp.MustCompile(`; (true|false) if absent`),
}

// commentDefaults reads the comments of the types that a config is read into.
func commentDefaults(t *testing.T) []place {
	t.Helper()
	var places []place
	found := map[string]bool{}
	for _, path := range goFiles(t, "../daemon", "../backends") {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			name := file.Name.Name + "." + spec.Name.Name
			fields, isStruct := spec.Type.(*ast.StructType)
			if types[name] == "" || !isStruct {
				return true
			}

			found[name] = true
			for _, field := range fields.Fields.List {
				if field.Tag == nil {
					continue
				}
				tag, _ := strconv.Unquote(field.Tag.Value) // the parser has read it
				member := types[name] + "." + reflect.StructTag(tag).Get("yaml")
				comment := strings.Join(strings.Fields(field.Doc.Text()+" "+field.Comment.Text()), " ")
				for _, form := range commentForms {
					// A comment that names the constant cannot be wrong.
					if m := form.FindStringSubmatch(comment); m != nil && !strings.Contains(m[1], ".Default") {
						places = append(places, place{filepath.Base(path) + ", " + name, member, normal(m[1])})
						break
					}
				}
			}
			return true
		})
	}
	for name := range types {
		if !found[name] {
			t.Errorf("no struct %s: this test does not see its defaults", name)
		}
	}
	if len(places) < 15 {
		t.Fatalf("found %d defaults in comments, want more: %v", len(places), places)
	}
	return places
}

// goFiles lists the source files below the directories, without tests.
func goFiles(t *testing.T, dirs ...string) []string {
	t.Helper()
	var files []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// backendSources is the source of all backends.
func backendSources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, path := range goFiles(t, "../backends") {
		all.WriteString(read(t, path))
	}
	return all.String()
}

// match returns the first group of pattern that matches.
func match(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing matches %s: has the default moved?", pattern)
	}
	return strings.Join(m[1:], "")
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
