package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// TestMain runs the tests or, in a process that a test started, a part: see childPart.
func TestMain(m *testing.M) {
	if part := os.Getenv(childPart); part != "" {
		os.Exit(playChild(part))
	}
	code := m.Run()
	if shared.dir != "" {
		if err := os.RemoveAll(shared.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// shared is the binary and the token that the tests share. The first test that calls
// setUp makes them.
var shared struct {
	once   sync.Once
	err    error
	dir    string            // mode 0711: other users reach a socket in it, but cannot list it
	binary string            // signetd
	token  *softhsm.Token    // with all keys
	refs   map[string]string // of the keys, by label
}

// keyTypes are the keys of the shared token.
var keyTypes = []struct {
	label string
	typ   provision.KeyType
	use   signer.Use
}{
	{"oidc", provision.ECP256, signer.UseSig},
	{"rsa", provision.RSA2048, signer.UseSig},
	{"notes", provision.ECP256, signer.UseSig},
	{"inbox", provision.RSA2048, signer.UseEnc},
	{"outbox", provision.RSA2048, signer.UseEnc},
}

// setUp makes the shared binary and token, once. Without SoftHSM2 it skips the test, or
// fails it if REQUIRE_SOFTHSM is 1.
func setUp(t *testing.T) {
	t.Helper()
	shared.once.Do(func() { shared.err = makeShared() })
	switch {
	case errors.Is(shared.err, softhsm.ErrMissing) && os.Getenv("REQUIRE_SOFTHSM") != "1":
		t.Skip(shared.err)
	case shared.err != nil:
		t.Fatal(shared.err)
	}
}

func makeShared() (err error) {
	if _, err := softhsm.Module(); err != nil {
		return err
	}
	if shared.dir, err = os.MkdirTemp("", "e2e"); err != nil {
		return err
	}
	if err := os.Chmod(shared.dir, 0o711); err != nil { // #nosec G302 -- peers of other users pass through to a socket
		return err
	}

	shared.binary = filepath.Join(shared.dir, "signetd")
	args := []string{"build", "-o", shared.binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "signetd/cmd/signetd")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build signetd: %w: %s", err, out)
	}

	tokenDir := filepath.Join(shared.dir, "token")
	if err := os.Mkdir(tokenDir, 0o700); err != nil {
		return err
	}
	if shared.token, err = softhsm.Create(tokenDir, "e2e"); err != nil {
		return err
	}

	shared.refs = map[string]string{}
	for _, k := range keyTypes {
		if shared.refs[k.label], err = shared.token.GenerateKey(k.label, k.typ, k.use); err != nil {
			return err
		}
	}
	return nil
}

// newDir makes a directory for one daemon. The path is short: that of a Unix socket has
// at most 107 bytes (unix(7)).
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // #nosec G302 -- as shared.dir
		t.Fatal(err)
	}
	return dir
}

// settings are the sections of a config file in YAML, and the paths that it needs.
type settings struct {
	dir    string
	binary string // path of signetd; the shared one if empty
	token  *softhsm.Token
	env    []string // in addition to what every daemon gets

	socket, limits, audit, log, metrics, backends, keys, grants string
}

const (
	issuer = "https://id.example.com"

	oidcKey = `
  - name: oidc
    use: sig
    algs: [ES256]
    jwt: {issuer: "https://id.example.com", audiences: [api, billing], max_ttl: 15m, typ: at+jwt}
    versions: [{backend: hsm, ref: "$oidc"}]`
	rsaKey = `
  - name: rsa
    use: sig
    algs: [RS256, PS256]
    jwt: {issuer: "https://id.example.com", audiences: [api], max_ttl: 1h}
    versions: [{backend: hsm, ref: "$rsa"}]`
	notesKey = `
  - name: notes
    use: sig
    algs: [ES256]
    versions: [{backend: hsm, ref: "$notes"}]`
	inboxKey = `
  - name: inbox
    use: enc
    algs: [RSA-OAEP-256, RSA-OAEP, RSA-OAEP-384, RSA-OAEP-512]
    versions: [{backend: hsm, ref: "$inbox"}]`
	outboxKey = `
  - name: outbox
    use: enc
    algs: [RSA-OAEP-256]
    versions: [{backend: hsm, ref: "$outbox"}]`

	allGrants = `
  - {peer: {user: $uid}, ops: [sign-jwt, verify], keys: [oidc, rsa]}
  - {peer: {user: $uid}, ops: [sign-jws, sign-digest], keys: [notes]}
  - {peer: {user: $uid}, ops: [decrypt, unwrap, encrypt], keys: [inbox, outbox]}
  - {peer: {user: $uid}, ops: [encrypt-jwk, reload]}`
)

// newSettings returns a config with every key of the shared token. It grants the user who
// runs the test every operation.
func newSettings(t *testing.T) *settings {
	t.Helper()
	setUp(t)
	return &settings{
		dir:      newDir(t),
		token:    shared.token,
		socket:   `{path: "$dir/s.sock", mode: "0600"}`,
		limits:   `{connections: 256, refusals: 1000000}`,
		audit:    `{path: "$dir/audit.jsonl", sync: never}`,
		log:      `{level: debug}`,
		backends: "\n  - {name: hsm, pkcs11: {module: \"$module\", token: \"$token\", pin_file: \"$pin\", sessions: 4}}",
		keys:     oidcKey + rsaKey + notesKey + inboxKey + outboxKey,
		grants:   allGrants,
	}
}

// oneKey removes all keys but oidc, so that the daemon starts faster.
func (s *settings) oneKey() *settings {
	s.keys = oidcKey
	s.grants = "\n  - {peer: {user: $uid}, ops: [sign-jwt, verify], keys: [oidc]}\n  - {peer: {user: $uid}, ops: [reload]}"
	return s
}

func (s *settings) path(name string) string { return filepath.Join(s.dir, name) }

// yaml returns the text of the config file.
func (s *settings) yaml() string {
	var b strings.Builder
	for _, section := range []struct{ name, text string }{
		{"socket", s.socket}, {"limits", s.limits}, {"audit", s.audit}, {"log", s.log}, {"metrics", s.metrics},
		{"backends", s.backends}, {"keys", s.keys}, {"grants", s.grants},
	} {
		if section.text != "" {
			fmt.Fprintf(&b, "%s: %s\n", section.name, section.text)
		}
	}

	return os.Expand(b.String(), func(name string) string {
		switch name {
		case "dir":
			return s.dir
		case "uid":
			return strconv.Itoa(os.Getuid())
		case "module":
			return s.token.Module()
		case "token":
			return s.token.Label()
		case "pin":
			return s.token.PINFile()
		}
		if ref, ok := shared.refs[name]; ok {
			return ref
		}
		return "$" + name
	})
}

// write writes the config file and returns its path.
func (s *settings) write(t *testing.T) string {
	t.Helper()
	path := s.path("signetd.yaml")
	writeFile(t, path, s.yaml())
	return path
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
