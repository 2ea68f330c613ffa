//go:build cgo

package pkcs11_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/signer"
	"signetd/softhsm"
)

// write makes a file in a folder of the test and returns its path.
func write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask may have removed bits
		t.Fatal(err)
	}
	return path
}

func TestOpenRefuses(t *testing.T) {
	token := softhsm.New(t)
	tests := []struct {
		name   string
		change func(*pkcs11.Config)
		is     error
		words  []string
	}{
		{"no module", func(c *pkcs11.Config) { c.Module = "" }, signer.ErrInvalid, []string{"module is missing"}},
		{"a relative module", func(c *pkcs11.Config) { c.Module = "libsofthsm2.so" }, signer.ErrInvalid, []string{"absolute"}},
		{"no token", func(c *pkcs11.Config) { c.Token = "" }, signer.ErrInvalid, []string{"token or serial"}},
		{"no PIN file", func(c *pkcs11.Config) { c.PINFile = "" }, signer.ErrInvalid, []string{"pin_file is missing"}},
		{"too many sessions", func(c *pkcs11.Config) { c.Sessions = 5000 }, signer.ErrInvalid, []string{"sessions is 5000"}},
		{"a module that is not there", func(c *pkcs11.Config) { c.Module = "/nowhere/lib.so" }, signer.ErrUnavailable, []string{"/nowhere/lib.so does not exist"}},
		{"a module that is a folder", func(c *pkcs11.Config) { c.Module = t.TempDir() }, signer.ErrUnavailable, []string{"is not a file"}},
		{"a module that is text", func(c *pkcs11.Config) { c.Module = write(t, "lib.so", "hello", 0o644) }, signer.ErrUnavailable, []string{"is not a shared library"}},
		{"a library that is no module", func(c *pkcs11.Config) { c.Module = testBinary(t) }, signer.ErrUnavailable, []string{"C_GetFunctionList"}},
		{"an unknown token", func(c *pkcs11.Config) { c.Token = "isuer" }, signer.ErrUnavailable, []string{`"isuer"`, `"signetd-test"`}},
		{"an unknown serial", func(c *pkcs11.Config) { c.Serial = "0000" }, signer.ErrUnavailable, []string{`"0000"`, `"signetd-test"`}},
		{"a PIN file that is not there", func(c *pkcs11.Config) { c.PINFile = "/nowhere/pin" }, signer.ErrInvalid, []string{"/nowhere/pin", "no such file"}},
		{"a PIN file for everybody", func(c *pkcs11.Config) { c.PINFile = write(t, "pin", token.PIN(), 0o644) }, signer.ErrInvalid, []string{"0644"}},
		{"an empty PIN file", func(c *pkcs11.Config) { c.PINFile = write(t, "pin", "\n", 0o600) }, signer.ErrInvalid, []string{"empty"}},
		{"a huge PIN file", func(c *pkcs11.Config) { c.PINFile = write(t, "pin", strings.Repeat("1", 2000), 0o600) }, signer.ErrInvalid, []string{"longer"}},
		{"a PIN file that is a folder", func(c *pkcs11.Config) { c.PINFile = t.TempDir() }, signer.ErrInvalid, []string{"regular"}},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := token.Config()
			tt.change(&cfg)
			_, err := pkcs11.Open(t.Context(), cfg)
			wantError(t, err, tt.is, tt.words...)
			if strings.Contains(err.Error(), token.PIN()) {
				t.Error("the error shows the PIN")
			}
		})
	}
}

// testBinary returns an ELF file for this machine that is not a PKCS#11 module.
func testBinary(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenBySerial(t *testing.T) {
	token := softhsm.New(t)
	serial, err := token.AddToken("other")
	if err != nil {
		t.Fatal(err)
	}
	cfg := token.Config()
	cfg.Token, cfg.Serial = "", serial
	b := mustOpen(t, cfg)
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	_, err = b.OpenKey(t.Context(), "pkcs11:token=signetd-test;object=k")
	wantError(t, err, signer.ErrInvalid, `is not in token "other"`)
}

func TestOpenTwoTokensOneLabel(t *testing.T) {
	token := softhsm.New(t)
	twin := initTwin(t, token)
	_, err := pkcs11.Open(t.Context(), token.Config())
	wantError(t, err, signer.ErrInvalid, "2 tokens", "serial")

	cfg := token.Config()
	cfg.Serial = twin
	if err := mustOpen(t, cfg).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// initTwin makes a token with the label of token, which package provision
// refuses to do, and returns its serial number.
func initTwin(t *testing.T, token *softhsm.Token) (serial string) {
	t.Helper()
	if _, err := token.AddToken("soon a twin"); err != nil {
		t.Fatal(err)
	}
	ctx := p11.New(token.Module())
	if err := ctx.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ctx.Finalize(); err != nil {
			t.Fatal(err)
		}
	}()
	soPIN, err := pkcs11.ReadPIN(filepath.Join(filepath.Dir(token.PINFile()), "so-pin"))
	if err != nil {
		t.Fatal(err)
	}
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}

	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		if err != nil || info.Label != "soon a twin" {
			continue
		}
		if err := ctx.InitToken(slot, string(soPIN), token.Label()); err != nil {
			t.Fatal(err)
		}
		s, err := ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		if err := ctx.Login(s, p11.CKU_SO, string(soPIN)); err != nil {
			t.Fatal(err)
		}
		if err := ctx.InitPIN(s, token.PIN()); err != nil {
			t.Fatal(err)
		}
		return info.SerialNumber
	}
	t.Fatal("the other token is gone")
	return ""
}

func TestOpenSkipsBrokenSlot(t *testing.T) {
	token := softhsm.New(t)
	f, cfg := newFaulty(t, token)
	f.Inject("dead-slot 7777")
	mustOpen(t, cfg)

	cfg.Token = "isuer"
	_, err := pkcs11.Open(t.Context(), cfg)
	wantError(t, err, signer.ErrUnavailable, `"signetd-test"`, "CKR_DEVICE_ERROR")
}

func TestWrongPIN(t *testing.T) {
	token := softhsm.New(t)
	f, cfg := newFaulty(t, token)
	right := cfg.PINFile
	cfg.PINFile = write(t, "pin", "wrong-pin-1\n", 0o600)

	_, err := pkcs11.Open(t.Context(), cfg)
	wantError(t, err, signer.ErrUnavailable, cfg.PINFile, "one attempt", "CKR_PIN_INCORRECT")
	if strings.Contains(err.Error(), "wrong-pin-1") {
		t.Error("the error shows the PIN")
	}
	if n := calls(f, "C_Login"); n != 1 {
		t.Fatalf("%d login attempts, want 1", n)
	}

	_, err = pkcs11.Open(t.Context(), cfg)
	wantError(t, err, signer.ErrUnavailable, cfg.PINFile, "not tried again")
	if n := calls(f, "C_Login"); n != 1 {
		t.Fatalf("a second Open with the wrong PIN made attempt %d", n)
	}

	cfg.PINFile = write(t, "pin", "wrong-pin-2\n", 0o600)
	_, err = pkcs11.Open(t.Context(), cfg)
	wantError(t, err, signer.ErrUnavailable, "one attempt")

	cfg.PINFile = right
	mustOpen(t, cfg)
	if n := calls(f, "C_Login"); n != 3 {
		t.Errorf("%d login attempts, want 3: one for each PIN", n)
	}
}

func TestLoginAnswers(t *testing.T) {
	token := softhsm.New(t)
	for _, rv := range []uint{
		p11.CKR_PIN_INCORRECT, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_EXPIRED, p11.CKR_PIN_LOCKED,
		p11.CKR_USER_PIN_NOT_INITIALIZED, p11.CKR_ARGUMENTS_BAD,
	} {
		t.Run(p11.Error(rv).Error(), func(t *testing.T) {
			f, cfg := newFaulty(t, token)
			cfg.PINFile = write(t, "pin", p11.Error(rv).Error(), 0o600) // one for each case
			f.Inject(answers("C_Login", rv))
			_, err := pkcs11.Open(t.Context(), cfg)
			wantError(t, err, signer.ErrUnavailable, cfg.PINFile, "one attempt")
			_, err = pkcs11.Open(t.Context(), cfg)
			wantError(t, err, signer.ErrUnavailable, "not tried again")
			if n := calls(f, "C_Login"); n != 1 {
				t.Errorf("%d login attempts, want 1", n)
			}
		})
	}
	t.Run("a device error says nothing of the PIN", func(t *testing.T) {
		f, cfg := newFaulty(t, token)
		lift := f.Inject("C_Login * rv=CKR_DEVICE_ERROR")
		_, err := pkcs11.Open(t.Context(), cfg)
		wantError(t, err, signer.ErrUnavailable, "CKR_DEVICE_ERROR")
		lift()
		mustOpen(t, cfg)
	})
}

func TestNoAttemptOnEndangeredToken(t *testing.T) {
	token := softhsm.New(t)
	for name, flag := range map[string]string{"locked": "USER_PIN_LOCKED", "one more wrong PIN": "USER_PIN_FINAL_TRY"} {
		t.Run(name, func(t *testing.T) {
			f, cfg := newFaulty(t, token)
			f.Inject("token-flags +" + flag)
			_, err := pkcs11.Open(t.Context(), cfg)
			wantError(t, err, signer.ErrUnavailable, name)
			if n := calls(f, "C_Login"); n != 0 {
				t.Errorf("%d login attempts, want none", n)
			}
		})
	}
}

func TestBackendsShareModuleAndLogin(t *testing.T) {
	token := softhsm.New(t)
	f, cfg := newFaulty(t, token)
	link := filepath.Join(t.TempDir(), "link.so")
	if err := os.Symlink(cfg.Module, link); err != nil {
		t.Fatal(err)
	}
	first := mustOpen(t, cfg)
	cfg.Module = link
	second := mustOpen(t, cfg)

	wrong := cfg
	wrong.PINFile = write(t, "pin", "another-pin\n", 0o600)
	_, err := pkcs11.Open(t.Context(), wrong)
	wantError(t, err, signer.ErrUnavailable, wrong.PINFile, "another PIN")

	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, first.Ping(t.Context()), signer.ErrUnavailable, "closed")
	if err := second.Ping(t.Context()); err != nil {
		t.Errorf("after the other backend closed: %v", err)
	}
	openRaw(t, token).ec(oidP256, "k", "\x01", attrs{p11.CKA_SIGN: true}) // needs a login
	mustOpenKey(t, second, "pkcs11:object=k")
	for _, function := range []string{"C_Initialize", "C_Login"} {
		if got := calls(f, function); got != 1 {
			t.Errorf("%s was called %d times, want once", function, got)
		}
	}
	if calls(f, "C_Logout") != 0 || calls(f, "C_Finalize") != 0 {
		t.Error("logged out or finalised under an open backend")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if calls(f, "C_Logout") != 1 || calls(f, "C_Finalize") != 1 {
		t.Error("not logged out or not finalised after the last backend")
	}
	mustOpen(t, cfg) // the module can be initialised once more
}

func TestOpenAtOnce(t *testing.T) {
	token := softhsm.New(t)
	f, cfg := newFaulty(t, token)
	var wg sync.WaitGroup

	for range 16 {
		wg.Go(func() {
			b, err := pkcs11.Open(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			if err := b.Ping(t.Context()); err != nil {
				t.Error(err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := calls(f, "C_Login"); n < 1 || n > 16 {
		t.Errorf("%d logins", n)
	}
}

func TestOpenModuleInUse(t *testing.T) {
	token := softhsm.New(t)
	ctx := p11.New(token.Module())
	if err := ctx.Initialize(); err != nil {
		t.Fatal(err)
	}
	_, err := pkcs11.Open(t.Context(), token.Config())
	wantError(t, err, signer.ErrUnavailable, "CKR_CRYPTOKI_ALREADY_INITIALIZED")
	if err := ctx.Finalize(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, token.Config())
}

func TestOpenContextEnded(t *testing.T) {
	token := softhsm.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := pkcs11.Open(ctx, token.Config())
	wantError(t, err, context.Canceled)
}

// An Open whose caller has left undoes what it has done.
func TestOpenAbandoned(t *testing.T) {
	token := softhsm.New(t)
	f, cfg := newFaulty(t, token)
	lift := f.Inject("C_Login * hang")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := pkcs11.Open(ctx, cfg)
	wantError(t, err, context.DeadlineExceeded)
	if calls(f, "C_Login") == 1 && calls(f, "C_Finalize") != 0 {
		t.Error("finalised under a call that runs")
	}
	lift()
	waitFor(t, func() bool { return calls(f, "C_Initialize") == 1 && calls(f, "C_Finalize") == 1 })
	if n := calls(f, "C_Logout"); n != 1 {
		t.Errorf("%d logouts, want 1", n)
	}
}

func TestPing(t *testing.T) {
	token := softhsm.New(t)
	f, cfg := newFaulty(t, token)
	b := mustOpen(t, cfg)
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	lift := f.Inject("C_GetTokenInfo * rv=CKR_GENERAL_ERROR")
	wantError(t, b.Ping(t.Context()), signer.ErrUnavailable, "CKR_GENERAL_ERROR")
	lift()
	waitFor(t, func() bool { return b.Ping(t.Context()) == nil })
}
