package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
)

// forms returns the forms in which a secret may be in a text: as it is, in hex, and in
// base64 and base64url at each of the three offsets in a longer input.
func forms(secret []byte) map[string]string {
	list := map[string]string{
		"raw": string(secret), "hex": hex.EncodeToString(secret), "HEX": strings.ToUpper(hex.EncodeToString(secret)),
		"decimal": strings.Trim(fmt.Sprintf("%d", secret), "[]"), "quoted": strings.Trim(fmt.Sprintf("%q", secret), `"`),
	}
	for shift := range 3 {
		padded := append(make([]byte, shift), secret...)
		whole := len(padded) / 3 * 3 // the last characters depend on the bytes that follow
		for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			first := (shift*8 + 5) / 6 // and the first on those before
			list[fmt.Sprint(name, " at ", shift)] = enc.EncodeToString(padded[:whole])[first:]
		}
	}
	return list
}

// TestForms checks that the search finds a secret in each form.
func TestForms(t *testing.T) {
	secret := []byte("attack at dawn\xff\xfe?")
	for _, before := range []string{"", "x", "xy", "xyz"} {
		text := []byte(before + string(secret) + "tail")
		for _, leak := range []string{
			string(text), hex.EncodeToString(text), base64.StdEncoding.EncodeToString(text), base64.URLEncoding.EncodeToString(text), fmt.Sprintf("%d", text), fmt.Sprintf("%q", text),
		} {
			if len(found(leak, secret)) == 0 {
				t.Errorf("not found in %q", leak)
			}
		}
	}

	if got := found("nothing of it", secret); len(got) > 0 {
		t.Errorf("found as %v", got)
	}
}

func found(text string, secret []byte) (as []string) {
	for name, form := range forms(secret) {
		if strings.Contains(text, form) {
			as = append(as, name)
		}
	}
	return as
}

// With the log at level debug, no PIN, plaintext, CEK or claim is in the log, an audit
// record, a metric or an error.
func TestE2ENoSecretAnywhere(t *testing.T) {
	s := newSettings(t)
	s.metrics = `{listen: "$dir/m.sock"}`
	p := start(t, s)
	secrets := map[string][]byte{
		"PIN": []byte(s.token.PIN()), "plaintext": []byte("plaintext-8f1d5c0e-7a"), "claim": []byte("claim-24cc91b3-5e"), "payload": []byte("payload-f00d9e1a-66"),
	}
	var errors strings.Builder
	try := func(path string, body any) answer {
		a := p.do(http.MethodPost, path, body)
		if a.status != http.StatusOK {
			errors.Write(a.body)
			fmt.Fprintln(&errors, a.header)
		}
		return a
	}
	workWithSecrets(t, p, secrets, try)

	writeFile(t, s.path("signetd.yaml"), strings.Replace(s.yaml(), "[ES256]", "[RS256]", 1))
	p.hangUp()
	try(api.ReloadConfig.Path, "{}")
	metrics := p.readMetrics(s.path("m.sock"))
	p.stop()
	if errors.Len() < 1000 || len(metrics) < 1000 || p.stderr.data.Len() < 1000 {
		t.Fatal("the run did not do what it was to do")
	}
	for where, text := range map[string]string{
		"standard output": p.stdout.String(), "standard error": p.stderr.String(), "the audit log": readFile(t, s.path("audit.jsonl")), "the metrics": metrics, "errors": errors.String(),
	} {
		for name, secret := range secrets {
			if as := found(text, secret); len(as) > 0 {
				t.Errorf("%s: the %s is there, as %v", where, name, as)
			}
		}
	}
}

// workWithSecrets sends good and bad requests of every operation that carry the secrets,
// and adds the CEKs of the answers to them.
func workWithSecrets(t *testing.T, p *process, secrets map[string][]byte, try func(string, any) answer) {
	t.Helper()
	inbox := p.publicKey("inbox")
	jwe := compact(t, seal(t, inbox, jose.RSA_OAEP_256, jose.A256GCM, secrets["plaintext"], nil))
	parts := strings.Split(jwe, ".")
	try(api.DecryptJWE.Path, api.DecryptJWERequest{JWE: jwe})
	try(api.DecryptJWE.Path, api.DecryptJWERequest{JWE: jwe, Key: "outbox"})
	try(api.DecryptJWE.Path, api.DecryptJWERequest{JWE: with(parts, 4, make([]byte, 16))})
	try(api.DecryptJWE.Path, api.DecryptJWERequest{JWE: string(secrets["plaintext"])})
	try(api.DecryptJWE.Path, fmt.Sprintf(`{"jwe":"%s","%s":1}`, jwe, "plain"))

	cek := post[api.UnwrapCEKResponse](p, api.UnwrapCEK.Path, api.UnwrapCEKRequest{Key: "inbox", Alg: "RSA-OAEP-256", EncryptedKey: part(t, parts[1])}).CEK
	if openGCM(t, cek, parts) != string(secrets["plaintext"]) {
		t.Fatal("the CEK does not open the JWE")
	}
	secrets["CEK"] = cek
	try(api.UnwrapCEK.Path, api.UnwrapCEKRequest{Key: "inbox", Alg: "RSA-OAEP", EncryptedKey: part(t, parts[1])})
	try(api.UnwrapCEK.Path, api.UnwrapCEKRequest{Key: "inbox", Alg: "A256KW", EncryptedKey: cek})

	for _, q := range []api.EncryptJWERequest{{Key: "inbox"}, {Key: "nobody"}, {Key: "inbox", Enc: "A512GCM"}, {Recipient: &inbox}, {Key: "oidc"}} {
		q.Plaintext = secrets["plaintext"]
		try(api.EncryptJWE.Path, q)
	}
	plain := base64.StdEncoding.EncodeToString(append([]byte{0xff, 0xff}, secrets["plaintext"]...)) // not base64url: refused
	try(api.EncryptJWE.Path, fmt.Sprintf(`{"key":"inbox","plaintext":%q}`, plain))

	for _, claims := range []string{
		`{"aud":"api","sub":"S"}`, `{"aud":"S"}`, `{"aud":"api","iss":"S"}`, `{"aud":"api","sub":"S","sub":"S"}`, `{"aud":"api","exp":"S"}`, `{"aud":"api","Aud":"S"}`, `"S"`, `["S"]`, `{"aud":"api","sub":"S"`, `{"aud":{"S":1}}`, `{"aud":"api","jti":["S"]}`,
	} {
		claims = strings.ReplaceAll(claims, "S", string(secrets["claim"]))
		a := try(api.SignJWT.Path, `{"key":"oidc","claims":`+claims+`}`)
		try(api.SignJWT.Path, `{"key":"oidc","ttl":"`+string(secrets["claim"])+`","claims":`+claims+`}`)
		if a.status == http.StatusOK {
			token := decode[api.SignJWTResponse](t, "sign", a).Token
			try(api.VerifyJWT.Path, api.VerifyJWTRequest{Token: token})
			try(api.VerifyJWT.Path, api.VerifyJWTRequest{Token: token + "x"})
			try(api.VerifyJWT.Path, api.VerifyJWTRequest{Token: token, Audience: "other"})
		}
	}

	for _, q := range []api.SignJWSRequest{{Key: "notes"}, {Key: "notes", Alg: "RS256"}, {Key: "oidc"}, {Key: "notes", Serialization: "other"}} {
		q.Payload = secrets["payload"]
		try(api.SignJWS.Path, q)
	}
	try(api.SignDigest.Path, api.SignDigestRequest{Key: "notes", Alg: "ES256", Digest: secrets["payload"]})
	for _, garbage := range []string{"POST /v1/jwt/sign HTTP/1.1\r\nA" + string(secrets["claim"]) + "\r\n\r\n", string(secrets["claim"]) + "\r\n\r\n", "GET / HTTP/1.1\r\nHost: " + string(secrets["claim"]) + " \x00\r\n\r\n"} {
		wantTyped(t, p.exchange(t, garbage))
	}
}

// The daemon never writes its memory to a core file.
func TestE2ENoCore(t *testing.T) {
	s := newSettings(t).oneKey()
	p := prepare(t, s)
	p.cmd.Env = append(p.cmd.Env, "GOTRACEBACK=crash") // at a crash the Go runtime raises SIGABRT, which dumps core
	p.launch()
	p.awaitReady(1)
	p.sign("oidc", "")

	limits := readFile(t, fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).MatchString(limits) {
		t.Errorf("it may dump core:\n%s", limits)
	}
	p.stopped = true
	p.signal(syscall.SIGSEGV)
	<-p.exited

	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.CoreDump() || p.cmd.ProcessState.Success() {
		t.Errorf("it ended with %v", p.cmd.ProcessState)
	}
	if cores, err := filepath.Glob(s.path("*core*")); err != nil || len(cores) > 0 {
		t.Errorf("core files: %v %v", cores, err)
	}

	if as := found(p.stderr.String(), []byte(s.token.PIN())); len(as) > 0 {
		t.Errorf("the PIN is on standard error, as %v", as)
	}
}

// Other processes of the daemon's user cannot read its memory either. The files in
// /proc/PID of a process that is not dumpable belong to root (proc(5)).
func TestE2ENotDumpable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to run a daemon as another user")
	}
	t.Parallel()
	s := newSettings(t)
	if err := os.Chown(s.dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}

	p := prepare(t, s)
	p.cmd.Args = []string{shared.binary, "dev", "--dir", s.dir}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
	if err := os.Chmod(p.notes.path, 0o666); err != nil { // #nosec G302 -- for the other user
		t.Fatal(err)
	}

	p.held = true // dev names its socket otherwise
	p.launch()
	p.awaitReady(1)
	control := exec.Command("sleep", "60")
	control.Dir = "/"
	control.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}

	if err := control.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = control.Process.Kill()
		_ = control.Wait()
	}()

	for late := time.Now().Add(deadline); ownerOfMem(t, control.Process.Pid) != 65534; time.Sleep(time.Millisecond) {
		if time.Now().After(late) { // it is not dumpable until it has executed sleep
			t.Fatal("what is dumpable does not belong to its user: this test proves nothing")
		}
	}
	if uid := ownerOfMem(t, p.cmd.Process.Pid); uid != 0 {
		t.Errorf("/proc/PID/mem belongs to %d, want 0", uid)
	}

	for _, name := range []string{"mem", "environ", "maps"} {
		look := exec.Command("cat", fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
		look.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
		look.Dir = "/"
		if out, err := look.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("Permission denied")) {
			t.Errorf("its own user reads %s: %.80q", name, out)
		}
	}
}

func ownerOfMem(t *testing.T, pid int) uint32 {
	t.Helper()
	info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	return stat.Uid
}
