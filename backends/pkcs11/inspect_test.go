//go:build cgo && unix

package pkcs11_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
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
	"time"

	"github.com/google/go-cmp/cmp"
	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a report with testdata/doctor/NAME.golden, and checks that the PIN is
// nowhere in it.
func golden(t *testing.T, name string, r pkcs11.Report, cfg pkcs11.Config) {
	t.Helper()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(normalised(r)); err != nil {
		t.Fatal(err)
	}

	if pin, err := pkcs11.ReadPIN(cfg.PINFile); err == nil && bytes.Contains(buf.Bytes(), pin) {
		t.Error("the report shows the PIN")
	}

	got := buf.String()
	for _, r := range []struct{ old, text string }{{cfg.Module, "/MODULE"}, {cfg.PINFile, "/PIN_FILE"}} {
		if r.old != "" {
			got = strings.ReplaceAll(got, r.old, r.text)
		}
	}
	got = regexp.MustCompile(`\b[0-9a-f]{16}\b`).ReplaceAllString(got, "SERIAL")
	got = regexp.MustCompile(`\bEM_\w+`).ReplaceAllString(got, "EM_SOME")

	path := filepath.Join("testdata", "doctor", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, d)
	}
}

// normalised replaces the parts of a report that differ from run to run or with the version
// of SoftHSM2.
func normalised(r pkcs11.Report) pkcs11.Report {
	if r.Module.Loaded {
		r.Module.Version, r.Module.Cryptoki = "1.0", "2.40"
	}

	for i, s := range r.Slots {
		r.Slots[i].ID, r.Slots[i].Description = uint(100+i), "SLOT"
		if s.Token != nil {
			s.Token.Hardware, s.Token.Firmware = "1.0", "1.0"
			s.Token.Mechanisms = slices.DeleteFunc(s.Token.Mechanisms, func(name string) bool {
				return !strings.HasPrefix(name, "CKM_RSA_") && !strings.HasPrefix(name, "CKM_EC")
			})
		}
	}

	for _, k := range r.Keys {
		for _, a := range k.Algs {
			for i := range a.Latency {
				l := &a.Latency[i]
				l.Samples, l.Median, l.P99 = 100, 2*time.Millisecond, 3*time.Millisecond
			}
		}
	}
	return r
}

func inspect(t *testing.T, cfg pkcs11.Config, keys ...pkcs11.KeyRef) pkcs11.Report {
	t.Helper()
	cfg.Sessions = 4
	return pkcs11.Inspect(t.Context(), cfg, keys)
}

func TestInspectHealthy(t *testing.T) {
	token := softhsm.New(t)
	token.Generate(t, "oidc", provision.ECP256, signer.UseSig)
	token.Generate(t, "notes", provision.RSA2048, signer.UseSig)
	token.Generate(t, "inbox", provision.RSA2048, signer.UseEnc)
	cfg := token.Config()
	r := inspect(t, cfg,
		pkcs11.KeyRef{Name: "oidc", Ref: "pkcs11:object=oidc", Algs: []signer.Alg{signer.ES256}},
		pkcs11.KeyRef{Name: "notes", Ref: "pkcs11:object=notes", Algs: []signer.Alg{signer.RS256, signer.PS256}},
		pkcs11.KeyRef{Name: "inbox", Ref: "pkcs11:object=inbox"})

	for _, k := range r.Keys {
		for _, a := range k.Algs {
			for _, l := range a.Latency {
				if l.Samples < 1 || l.Median <= 0 || l.P99 < l.Median {
					t.Errorf("%s %s: %+v", k.Name, a.Alg, l)
				}
			}
		}
	}
	golden(t, "healthy", r, cfg)
}

// Without label and serial it lists the slots, and does not log in.
func TestInspectModuleOnly(t *testing.T) {
	token := softhsm.New(t)
	f, cfg := newFaulty(t, token)
	cfg.Token, cfg.PINFile = "", ""
	golden(t, "module-only", pkcs11.Inspect(t.Context(), cfg, nil), cfg)
	if n := calls(f, "C_Login"); n != 0 {
		t.Errorf("%d logins", n)
	}
}

func TestInspectWrongModule(t *testing.T) {
	token := softhsm.New(t)
	dir := t.TempDir()
	other := filepath.Join(dir, "other.so")
	if out, err := exec.Command("cc", "-shared", "-x", "c", "/dev/null", "-o", other).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	foreign := filepath.Join(dir, "foreign.so")
	library, err := os.ReadFile(token.Module())
	if err != nil {
		t.Fatal(err)
	}
	library[18], library[19] = 183, 0 // e_machine: EM_AARCH64
	if runtime.GOARCH == "arm64" {
		library[18] = 62 // EM_X86_64
	}
	if err := os.WriteFile(foreign, library, 0o600); err != nil {
		t.Fatal(err)
	}

	for name, path := range map[string]string{
		"module-missing": filepath.Join(dir, "missing.so"), "module-text": write(t, "text.so", "not a library\n", 0o600),
		"module-other": other, "module-foreign": foreign, "module-relative": "libhsm.so",
	} {
		t.Run(name, func(t *testing.T) {
			cfg := token.Config()
			cfg.Module = path
			golden(t, name, inspect(t, cfg, pkcs11.KeyRef{Name: "oidc", Ref: "pkcs11:object=oidc"}), cfg)
		})
	}
}

// Keys that no careful tool makes, and refs that match no key.
func TestInspectKeys(t *testing.T) {
	token := softhsm.New(t)
	b := mustOpen(t, token.Config())
	raw := openRaw(t, token)
	raw.ec(oidP256, "extractable", "\x01", attrs{p11.CKA_SIGN: true, p11.CKA_EXTRACTABLE: true})
	raw.rsa(2048, "both", "\x02", attrs{p11.CKA_SIGN: true, p11.CKA_DECRYPT: true, p11.CKA_EXTRACTABLE: false})
	raw.ec(oidP224, "odd-curve", "\x03", attrs{p11.CKA_SIGN: true, p11.CKA_EXTRACTABLE: false})
	_, readable := raw.ec(oidP256, "readable", "\x04", attrs{p11.CKA_SIGN: true, p11.CKA_EXTRACTABLE: true})
	if err := raw.ctx.SetAttributeValue(raw.s, readable, []*p11.Attribute{p11.NewAttribute(p11.CKA_EXTRACTABLE, false)}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	for name, refs := range map[string][]pkcs11.KeyRef{
		"key-extractable":      {{Name: "oidc", Ref: "pkcs11:object=extractable", Algs: []signer.Alg{signer.ES256}}},
		"key-was-extractable":  {{Name: "oidc", Ref: "pkcs11:object=readable", Algs: []signer.Alg{signer.ES256}}},
		"key-signs-and-opens":  {{Name: "both", Ref: "pkcs11:object=both", Algs: []signer.Alg{signer.RS256}}},
		"key-cannot":           {{Name: "oidc", Ref: "pkcs11:object=extractable", Algs: []signer.Alg{signer.RS256}}, {Name: "odd", Ref: "pkcs11:object=odd-curve"}},
		"key-missing":          {{Name: "oidc", Ref: "pkcs11:object=nobody"}},
		"key-ref-with-the-pin": {{Name: "oidc", Ref: "pkcs11:object=extractable?pin-value=" + token.PIN()}},
	} {
		t.Run(name, func(t *testing.T) {
			golden(t, name, inspect(t, token.Config(), refs...), token.Config())
		})
	}
}

// The report lists the algorithms that CKA_ALLOWED_MECHANISMS allows, and no others.
func TestInspectAllowedMechanisms(t *testing.T) {
	token := softhsm.New(t)
	b := mustOpen(t, token.Config())
	allowed := binary.NativeEndian.AppendUint64(nil, p11.CKM_RSA_PKCS_OAEP)
	openRaw(t, token).rsa(2048, "inbox", "\x01", attrs{
		p11.CKA_SIGN: false, p11.CKA_DECRYPT: true, p11.CKA_EXTRACTABLE: false, p11.CKA_ALLOWED_MECHANISMS: allowed,
	})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	golden(t, "key-allowed", inspect(t, token.Config(), pkcs11.KeyRef{Name: "inbox", Ref: "pkcs11:object=inbox"}), token.Config())
}

// A token whose signatures have a wrong bit is not fit for use.
func TestInspectWrongSignatures(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "oidc", provision.ECP256, signer.UseSig)
	f, cfg := newFaulty(t, token)
	f.Inject("C_Sign * flip")
	r := inspect(t, cfg, pkcs11.KeyRef{Name: "oidc", Ref: ref})
	last := r.Findings[len(r.Findings)-1]
	if r.Verdict() != pkcs11.Fail || last.Code != "key-unusable" || !strings.Contains(last.Problem, "does not verify") {
		t.Errorf("%+v", r.Findings)
	}
}

// A wrong PIN is tried once, however often the token is inspected.
func TestInspectWrongPIN(t *testing.T) {
	f, cfg := newFaulty(t, softhsm.New(t))
	cfg.PINFile = write(t, "pin", "wrong-pin\n", 0o600)
	golden(t, "pin-wrong", inspect(t, cfg), cfg)
	if again := inspect(t, cfg); again.Verdict() != pkcs11.Fail || !strings.Contains(again.Login.Error, "has refused the PIN") {
		t.Errorf("the second time: %+v", again)
	}
	if n := calls(f, "C_Login"); n != 1 {
		t.Errorf("%d login attempts, want 1", n)
	}
}

func TestInspectPINState(t *testing.T) {
	token := softhsm.New(t)
	tests := []struct {
		name   string
		flags  string
		logins int
	}{
		{"pin-locked", "+USER_PIN_LOCKED", 0},
		{"pin-final-try", "+USER_PIN_FINAL_TRY +USER_PIN_COUNT_LOW", 0},
		{"pin-count-low", "+USER_PIN_COUNT_LOW +USER_PIN_TO_BE_CHANGED", 1},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, cfg := newFaulty(t, token)
			f.Inject("token-flags " + tt.flags)
			golden(t, tt.name, inspect(t, cfg), cfg)
			if n := calls(f, "C_Login"); n != tt.logins {
				t.Errorf("%d login attempts, want %d", n, tt.logins)
			}
		})
	}
	t.Run("pin-locked-unflagged", func(t *testing.T) { // as a TPM does
		f, cfg := newFaulty(t, token)
		f.Inject("C_Login * rv=CKR_PIN_LOCKED")
		cfg.PINFile = write(t, "pin", "a-pin-of-its-own\n", 0o600)
		golden(t, "pin-locked-unflagged", inspect(t, cfg), cfg)
		if n := calls(f, "C_Login"); n != 1 {
			t.Errorf("%d login attempts, want 1", n)
		}
	})
	t.Run("pin-file", func(t *testing.T) {
		cfg := token.Config()
		cfg.PINFile = write(t, "pin", "1234\n", 0o644)
		golden(t, "pin-file", inspect(t, cfg), cfg)
	})
}

func TestInspectToken(t *testing.T) {
	token := softhsm.New(t)

	t.Run("sessions", func(t *testing.T) {
		f, cfg := newFaulty(t, token)
		for name, limit := range map[string]int{"sessions-none": 1, "sessions-few": 4, "sessions-no-reload": 8} {
			lift := f.Inject(fmt.Sprintf("sessions %d", limit))
			golden(t, name, inspect(t, cfg), cfg)
			lift()
		}
	})

	t.Run("broken slot", func(t *testing.T) {
		f, cfg := newFaulty(t, token)
		f.Inject("dead-slot 7777")
		golden(t, "slot-broken", inspect(t, cfg), cfg)
	})

	t.Run("config", func(t *testing.T) {
		cfg := token.Config()
		cfg.Token = ""
		golden(t, "config", inspect(t, cfg, pkcs11.KeyRef{Name: "oidc", Ref: "pkcs11:object=oidc"}), cfg)
	})

	t.Run("missing", func(t *testing.T) {
		cfg := token.Config()
		cfg.Token = "isuer"
		golden(t, "token-missing", inspect(t, cfg), cfg)
	})
}

// A module that does not answer does not delay the report past its deadline.
func TestInspectHang(t *testing.T) {
	f, cfg := newFaulty(t, softhsm.New(t))
	lift := f.Inject("C_Login * hang")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	r := pkcs11.Inspect(ctx, cfg, nil)
	golden(t, "timeout", r, cfg)
	lift()
	for end := time.Now().Add(10 * time.Second); calls(f, "C_Finalize") < calls(f, "C_Initialize"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the module was not finalised when its call had returned")
		}
	}
}

func TestInspectWithoutLogin(t *testing.T) {
	f, cfg := newFaulty(t, softhsm.New(t))
	cfg.PINFile = ""
	golden(t, "login-none", inspect(t, cfg), cfg)
	if n := calls(f, "C_Login"); n != 0 {
		t.Errorf("%d logins", n)
	}
}
