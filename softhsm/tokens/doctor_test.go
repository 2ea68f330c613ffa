//go:build linux && cgo

package tokens_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
	"signetd/softhsm/faultp11"
	"signetd/softhsm/tokens"
)

var update = flag.Bool("update", false, "write the golden files anew")

// doctor runs signetd doctor and returns what it prints and its exit status.
func doctor(t *testing.T, token *tokens.Token, args ...string) (stdout string, status int) {
	t.Helper()
	bin, err := softhsm.Signetd()
	if err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	cmd := exec.Command(bin, append([]string{"doctor"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &log
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if strings.Contains(out.String()+log.String(), token.PIN()) {
		t.Error("it printed the PIN")
	}
	status = cmd.ProcessState.ExitCode()
	if (log.Len() > 0) != (status != 0) {
		t.Errorf("exit status %d, standard error: %s", status, log.String())
	}
	return out.String(), status
}

// algsOf are the algorithms of use that a key of type RSA-2048 can do in token.
func algsOf(token *tokens.Token, use signer.Use) (algs []signer.Alg) {
	for _, alg := range []signer.Alg{
		signer.RS256, signer.RS384, signer.RS512, signer.PS256, signer.PS384, signer.PS512,
		signer.RSAOAEP, signer.RSAOAEP256, signer.RSAOAEP384, signer.RSAOAEP512,
	} {
		if alg.Use() == use && !slices.Contains(token.Lacks(), alg) {
			algs = append(algs, alg)
		}
	}
	return algs
}

// TestDoctor examines every token: each algorithm is proven and measured, and nothing fails.
func TestDoctor(t *testing.T) {
	for _, kit := range tokens.All() {
		t.Run(kit.Name, func(t *testing.T) {
			if !runAlone(t) {
				return
			}
			token := kit.New(t)
			token.Generate(t, "sig", provision.RSA2048, signer.UseSig)
			token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
			sigs, encs := algsOf(token, signer.UseSig), algsOf(token, signer.UseEnc)
			stdout, status := doctor(t, token, "--json", "--config", doctorConfig(t, token, sigs, encs))
			var e struct {
				Verdict  pkcs11.Severity
				Backends []pkcs11.Report
			}
			if err := json.Unmarshal([]byte(stdout), &e); err != nil {
				t.Fatalf("%v: %s", err, stdout)
			}
			want := pkcs11.OK
			if kit.Name == "tpm" { // tpm2-pkcs11 lets every RSA key sign and decrypt
				want = pkcs11.Warn
			}
			if status != 0 || e.Verdict != want || len(e.Backends) != 1 || len(e.Backends[0].Keys) != 2 {
				t.Fatalf("exit status %d, verdict %s, want 0 and %s\n%s", status, e.Verdict, want, stdout)
			}
			report := e.Backends[0]
			if report.Verdict() != e.Verdict || !report.Login.OK || !report.Module.Loaded {
				t.Errorf("verdict %s of %+v", report.Verdict(), report)
			}
			for _, f := range report.Findings {
				t.Logf("%s %s %s: %s", f.Severity, f.Code, f.Subject, f.Problem)
			}
			for i, want := range [][]signer.Alg{sigs, encs} {
				checkServes(t, report.Keys[i], want)
			}
			// The same as text.
			if text, status := doctor(t, token, "--config", doctorConfig(t, token, sigs, encs)); status != 0 || !strings.Contains(text, "Verdict: ") {
				t.Errorf("exit status %d\n%s", status, text)
			}
		})
	}
}

// checkServes checks that key was found to do want, each proven and measured.
func checkServes(t *testing.T, key pkcs11.KeyReport, want []signer.Alg) {
	t.Helper()
	var algs []signer.Alg
	for _, a := range key.Algs {
		algs = append(algs, a.Alg)
		if !a.Proven || a.Error != "" || a.Way == "" {
			t.Errorf("%s %s: %+v", key.Name, a.Alg, a)
		}
		// Algorithms that differ in the hash alone take the same time: one is measured.
		first := slices.IndexFunc(key.Algs, func(b pkcs11.AlgReport) bool { return b.Way == a.Way })
		if key.Algs[first].Alg != a.Alg && len(a.Latency) == 0 {
			continue
		}
		if len(a.Latency) != 2 || a.Latency[0].InFlight != 1 || a.Latency[1].InFlight != 8 {
			t.Fatalf("%s %s: latencies %+v, want those at 1 and 8 in flight", key.Name, a.Alg, a.Latency)
		}
		for _, l := range a.Latency {
			if l.Samples < 1 || l.Median <= 0 || l.P99 < l.Median {
				t.Errorf("%s %s: %+v", key.Name, a.Alg, l)
			}
		}
	}
	if !slices.Equal(algs, want) {
		t.Errorf("%s can do %v, want %v", key.Name, algs, want)
	}
}

// doctorConfig writes a config with a key that signs and one that decrypts.
func doctorConfig(t *testing.T, token *tokens.Token, sigs, encs []signer.Alg) string {
	t.Helper()
	cfg := token.Config()
	list := func(algs []signer.Alg) string {
		return strings.ReplaceAll(strings.Trim(fmt.Sprint(algs), "[]"), " ", ", ")
	}
	path := filepath.Join(t.TempDir(), "signetd.yaml")
	text := fmt.Sprintf(`
backends:
  - name: hsm
    pkcs11: {module: %q, token: %q, pin_file: %q, init_args: %q, sessions: 2}
keys:
  - {name: notes, use: sig, algs: [%s], versions: [{backend: hsm, ref: "pkcs11:object=sig"}]}
  - {name: inbox, use: enc, algs: [%s], versions: [{backend: hsm, ref: "pkcs11:object=enc"}]}
`, cfg.Module, cfg.Token, cfg.PINFile, cfg.InitArgs, list(sigs), list(encs))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDoctorLocked examines a token that three wrong PINs have locked. Its flags say so, and
// no PIN is shown to it. Behind a module that hides those flags, as some tokens do, the
// login returns a real CKR_PIN_LOCKED.
func TestDoctorLocked(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewOpencryptoki(t)
	lock(t, token)
	args := func(module string) []string {
		return []string{"--module", module, "--token", token.Config().Token, "--pin-file", token.PINFile()}
	}
	f := faultp11.New(t, token.Module())
	sessions := fmt.Sprintf("signetd uses %d, and", 4*runtime.NumCPU()) // the default
	for name, rule := range map[string]string{"locked": "", "locked-unflagged": "token-flags -USER_PIN_LOCKED -USER_PIN_FINAL_TRY -USER_PIN_COUNT_LOW"} {
		before := f.Count("C_Login")
		f.Clear()
		if rule != "" {
			f.Inject(rule)
		}
		text, status := doctor(t, token, args(f.Module())...)
		if status != 1 {
			t.Errorf("%s: exit status %d, want 1", name, status)
		}
		after := f.Count("C_Login")
		if shown, failed := after.Calls-before.Calls, after.Failed-before.Failed; shown != len(rule)/max(len(rule), 1) || failed != shown {
			t.Errorf("%s: a PIN was shown %d times, and refused %d times", name, shown, failed)
		}
		golden(t, name, strings.NewReplacer(f.Module(), "/MODULE", token.PINFile(), "/PIN_FILE", sessions, "signetd uses N, and").Replace(text))
	}
}

// TestDoctorExtractable examines a key that anyone who logs in can copy out of its token. It
// works, and is nevertheless not fit for use.
func TestDoctorExtractable(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewSoftHSM2(t)
	token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	r := openRaw(t, token)
	s, err := r.OpenSession(r.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	r.check("C_OpenSession", err)
	r.login()
	attribute := func(typ uint, value any) *p11.Attribute { return p11.NewAttribute(typ, value) }
	both := []*p11.Attribute{attribute(p11.CKA_TOKEN, true), attribute(p11.CKA_LABEL, "sig"), attribute(p11.CKA_ID, []byte{9})}
	_, _, err = r.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)},
		append([]*p11.Attribute{attribute(p11.CKA_MODULUS_BITS, 2048), attribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})}, both...),
		append([]*p11.Attribute{
			attribute(p11.CKA_PRIVATE, true), attribute(p11.CKA_SENSITIVE, true), attribute(p11.CKA_SIGN, true),
			attribute(p11.CKA_DECRYPT, false), attribute(p11.CKA_UNWRAP, false), attribute(p11.CKA_EXTRACTABLE, true),
		}, both...))
	r.check("C_GenerateKeyPair", err)
	text, status := doctor(t, token, "--config", doctorConfig(t, token, algsOf(token, signer.UseSig), algsOf(token, signer.UseEnc)))
	for _, words := range []string{"Verdict: not fit for use", `fail  hsm: key "notes": it is extractable`, `ok    hsm: key "inbox"`} {
		if !strings.Contains(text, words) {
			t.Errorf("it does not say %q", words)
		}
	}
	if status != 1 || t.Failed() {
		t.Errorf("exit status %d, want 1\n%s", status, text)
	}
}

// lock locks the token by wrong PINs.
func lock(t *testing.T, token *tokens.Token) {
	t.Helper()
	r := openRaw(t, token)
	for range 3 {
		if err := r.Login(r.s, p11.CKU_USER, "00000000"); err == nil {
			t.Fatal("a wrong PIN logs in")
		}
	}
	if err := r.Login(r.s, p11.CKU_USER, token.PIN()); !errors.Is(err, p11.Error(p11.CKR_PIN_LOCKED)) {
		t.Fatalf("after three wrong PINs the right one: %v, want CKR_PIN_LOCKED", err)
	}
}

// What differs from one machine to the next.
var (
	mechanisms = regexp.MustCompile(`\d+ mechanisms:[^:]*\n\n`)
	versions   = regexp.MustCompile(`\b\d+\.\d+\b`)
	serials    = regexp.MustCompile(`serial "[^"]*"`)
)

func golden(t *testing.T, name, got string) {
	t.Helper()
	got = mechanisms.ReplaceAllString(got, "mechanisms\n\n")
	got = serials.ReplaceAllString(versions.ReplaceAllString(got, "N.N"), `serial "SERIAL"`)
	path := filepath.Join("testdata", "doctor", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what doctor says (-update writes it anew):\n%s", path, got)
	}
}
