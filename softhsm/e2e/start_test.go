package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"signetd/daemon/api"
	"signetd/softhsm"
)

// newToken makes a token for a test that damages it.
func newToken(t *testing.T, label string) *softhsm.Token {
	t.Helper()
	setUp(t)
	dir := newDir(t)
	if err := os.Chmod(dir, 0o700); err != nil { // #nosec G302 -- a directory
		t.Fatal(err)
	}
	token, err := softhsm.Create(dir, label)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// softhsmUtil runs softhsm2-util, which is part of SoftHSM2.
func softhsmUtil(t *testing.T, token *softhsm.Token, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "softhsm2-util", args...)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+token.Conf())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
}

// textOf returns the contents of all files of dir but the PIN file.
func textOf(t *testing.T, dir string) string {
	t.Helper()
	var all bytes.Buffer
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != "pin" {
			all.WriteString(readFile(t, filepath.Join(dir, e.Name())))
		}
	}
	return all.String()
}

func TestE2ETokenRefused(t *testing.T) {
	tests := []struct {
		name   string
		change func(*settings)
		words  []string
	}{
		{"a token without a name", func(s *settings) { s.backends = strings.Replace(s.backends, `token: "$token", `, "", 1) }, []string{"token or serial"}},
		{"a key that is not there", func(s *settings) { s.keys = strings.Replace(s.keys, "$oidc", "pkcs11:object=oicd", 1) }, []string{`key "oidc"`, "oicd"}},
		{"a module that is not there", func(s *settings) { s.backends = strings.Replace(s.backends, "$module", "/nowhere/lib.so", 1) }, []string{"/nowhere/lib.so"}},
		{"a module that is text", func(s *settings) { s.backends = strings.Replace(s.backends, "$module", s.path("signetd.yaml"), 1) }, []string{"not a shared library"}},
		{"a library that is no module", func(s *settings) { s.backends = strings.Replace(s.backends, "$module", shared.binary, 1) }, []string{shared.binary}},
		{"a PIN file that is not there", func(s *settings) { s.backends = strings.Replace(s.backends, "$pin", "/nowhere/pin", 1) }, []string{"/nowhere/pin", "no such file"}},
		{"no PIN file", func(s *settings) { s.backends = strings.Replace(s.backends, `pin_file: "$pin", `, "", 1) }, []string{"pin_file is missing"}},
		{"a PIN file that all may read", func(s *settings) {
			writeFile(t, s.path("pin"), s.token.PIN())
			if err := os.Chmod(s.path("pin"), 0o644); err != nil { // #nosec G302 -- what the test is about
				t.Fatal(err)
			}
			s.backends = strings.Replace(s.backends, "$pin", s.path("pin"), 1)
		}, []string{"0644", "chmod"}},
		{"an empty PIN file", func(s *settings) {
			writeFile(t, s.path("pin"), "\n")
			s.backends = strings.Replace(s.backends, "$pin", s.path("pin"), 1)
		}, []string{"empty"}},
		{"a signing key for decryption", func(s *settings) {
			s.keys = strings.Replace(inboxKey, "$inbox", shared.refs["rsa"], 1)
			s.grants = ""
		}, []string{`key "inbox"`}},
		{"a decryption key for signatures", func(s *settings) {
			s.keys = strings.Replace(rsaKey, "$rsa", shared.refs["inbox"], 1)
			s.grants = ""
		}, []string{`key "rsa"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t).oneKey()
			tt.change(s)
			got := refused(t, s, "serve")
			placeOf(t, s, got)
			for _, w := range tt.words {
				if !strings.Contains(got, w) {
					t.Errorf("no %q in %s", w, got)
				}
			}
			if strings.Contains(got, s.token.PIN()) {
				t.Errorf("the error shows the PIN: %s", got)
			}
		})
	}
}

// serve waits for a missing token, which may appear later. check reports it as missing.
func TestE2ETokenUnknown(t *testing.T) {
	s := newSettings(t).oneKey()
	s.backends = strings.Replace(s.backends, "$token", "isuer", 1)
	got := refused(t, s, "check")
	placeOf(t, s, got)
	p := start(t, s)
	p.do(http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body).wantError(t, http.StatusServiceUnavailable, "unavailable")
	for _, text := range []string{got, p.stderr.String()} {
		if !strings.Contains(text, "isuer") || !strings.Contains(text, "e2e") {
			t.Errorf("no word of the token that is wanted, or of the one that is there: %s", text)
		}
	}
}

// ecKeyFile writes a new private key to a file, for an import into a token.
func ecKeyFile(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	writeFile(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return file
}

func TestE2ETwoKeysOneLabel(t *testing.T) {
	token := newToken(t, "twins")
	for _, id := range []string{"01", "02"} {
		softhsmUtil(t, token, "--import", ecKeyFile(t), "--token", token.Label(), "--label", "twin", "--id", id, "--pin", token.PIN())
	}
	s := newSettings(t).oneKey()
	s.token = token
	s.keys = strings.Replace(s.keys, "$oidc", "pkcs11:object=twin", 1)
	got := refused(t, s, "serve")
	placeOf(t, s, got)
	if !strings.Contains(got, "2 ") || !strings.Contains(got, `"oidc"`) {
		t.Errorf("the error does not say that there are two: %s", got)
	}

	s.keys = strings.Replace(s.keys, "object=twin", "object=twin;id=%02", 1)
	p := start(t, s)
	p.sign("oidc", "")
}

func TestE2ESocketInUse(t *testing.T) {
	s := newSettings(t).oneKey()
	p := start(t, s)
	second := *s
	second.dir = newDir(t)
	second.socket = strings.Replace(s.socket, "$dir", s.dir, 1)
	if got := refused(t, &second, "serve"); !strings.Contains(got, "another signetd") || !strings.Contains(got, p.sock()) {
		t.Errorf("a second daemon: %s", got)
	}
	p.alive()
	p.stop()

	t.Run("by a program that is no signetd", func(t *testing.T) {
		l, err := net.Listen("unix", s.path("s.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // the test is over
		if got := refused(t, s, "serve"); !strings.Contains(got, "answers on it already") {
			t.Errorf("%s", got)
		}
	})
	for name, make := range map[string]func(path string) error{
		"a file":      func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name+" in its place is left alone", func(t *testing.T) {
			path := s.path("s.sock")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := refused(t, s, "serve"); !strings.Contains(got, "in the way") {
				t.Errorf("%s", got)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("it is not what it was: %v", err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("a directory that is not there", func(t *testing.T) {
		gone := *s
		gone.socket = `{path: "$dir/no/s.sock"}`
		if got := refused(t, &gone, "serve"); !strings.Contains(got, "its directory must exist and be writable") {
			t.Errorf("%s", got)
		}
	})
}

// SIGKILL leaves the socket behind, and a full disk or a dead host half a line in the
// audit log. The next daemon starts with both.
func TestE2EStartAfterCrash(t *testing.T) {
	s := newSettings(t).oneKey()
	p := start(t, s)
	p.sign("oidc", "")
	p.kill()
	if _, err := os.Lstat(p.sock()); err != nil {
		t.Fatalf("kill -9 left no socket: %v", err)
	}
	whole := readFile(t, s.path("audit.jsonl"))
	torn := `{"time":"2026-11-22T00:00:00Z","request":"00`
	writeFile(t, s.path("audit.jsonl"), whole+torn)

	p = start(t, s)
	got := p.sign("oidc", "")
	p.stop()
	rest, ok := strings.CutPrefix(readFile(t, s.path("audit.jsonl")), whole+torn+"\n")
	if !ok {
		t.Fatalf("the old lines are not as they were:\n%s", readFile(t, s.path("audit.jsonl")))
	}
	list := parseRecords(t, rest)
	if len(list) == 0 || list[0].Outcome != "ok" || list[0].JTI != claim(t, got.Token, "jti") {
		t.Errorf("records after the crash: %+v", list)
	}
}

func TestE2ESocketMode(t *testing.T) {
	s := newSettings(t).oneKey()
	group := os.Getgid()
	if os.Getuid() == 0 {
		group = 1 // only root can give a file to a group that it is not a member of
	}
	for _, mode := range []string{`"0600"`, `"0660"`, "660", `"660"`} {
		s.socket = fmt.Sprintf(`{path: "$dir/s.sock", mode: %s, group: "%d"}`, mode, group)
		p := start(t, s)
		info, err := os.Stat(p.sock())
		if err != nil {
			t.Fatal(err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		want := os.FileMode(0o660)
		if strings.Contains(mode, "0600") {
			want = 0o600
		}
		if !ok || info.Mode().Perm() != want || int(stat.Gid) != group {
			t.Errorf("mode %s gives %v and group %d", mode, info.Mode(), stat.Gid)
		}
		p.stop()
	}

	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func TestE2EAuditLogRefused(t *testing.T) {
	s := newSettings(t).oneKey()
	p := start(t, s)
	other := *s
	other.dir = newDir(t)
	other.audit = strings.Replace(s.audit, "$dir", s.dir, 1)
	if got := refused(t, &other, "serve"); !strings.Contains(got, "another process has it open") {
		t.Errorf("an audit log of another daemon: %s", got)
	}

	p.do(http.MethodGet, api.ListKeys.Path, nil)
	p.stop()
	s.audit = `{path: /dev/full}`
	if got := refused(t, s, "serve"); !strings.Contains(got, "needs a file on a disk") {
		t.Errorf("an audit log that cannot be synced: %s", got)
	}

	s.audit = `{path: "$dir/no/audit.jsonl"}`
	if got := refused(t, s, "serve"); !strings.Contains(got, "no such file or directory") {
		t.Errorf("an audit log in a directory that is not there: %s", got)
	}
	if _, err := os.Lstat(s.path("s.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket was left behind")
	}
}
