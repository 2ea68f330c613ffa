//go:build cgo && unix

package pkcs11_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// putPIN replaces the content of a PIN file.
func putPIN(t *testing.T, path, pin string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(pin), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A key that wants the PIN for each operation gets it, read anew each time.
func TestKeyThatWantsThePINEachTime(t *testing.T) {
	token := softhsm.New(t)
	f, cfg := newFaulty(t, token)
	cfg.PINFile = filepath.Join(t.TempDir(), "pin")
	putPIN(t, cfg.PINFile, token.PIN())
	b := mustOpen(t, cfg)
	raw := openRaw(t, token)
	raw.ec(oidP256, "sig", "\x01", attrs{p11.CKA_SIGN: true, p11.CKA_ALWAYS_AUTHENTICATE: true})
	raw.rsa(2048, "enc", "\x02", attrs{p11.CKA_SIGN: false, p11.CKA_DECRYPT: true, p11.CKA_ALWAYS_AUTHENTICATE: true})
	sig, enc := mustOpenKey(t, b, "pkcs11:object=sig"), mustOpenKey(t, b, "pkcs11:object=enc").(signer.Decrypter)

	before := calls(f, "C_Login")
	if err := signOnce(t, t.Context(), sig); err != nil {
		t.Fatal(err)
	}
	for _, alg := range []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256} {
		ct := encryptTo(t, enc.Public(), alg, []byte("cek"))
		if got, err := enc.DecryptContext(t.Context(), ct, alg.DecrypterOpts()); err != nil || string(got) != "cek" {
			t.Errorf("%s: %v", alg, err)
		}
	}
	if n := calls(f, "C_Login") - before; n != 3 {
		t.Errorf("the PIN was shown %d times for 3 operations", n)
	}

	putPIN(t, cfg.PINFile, "wrong-pin-of-the-key")
	for range 3 {
		err := signOnce(t, t.Context(), sig)
		wantError(t, err, signer.ErrUnavailable, cfg.PINFile)
		if strings.Contains(err.Error(), "wrong-pin-of-the-key") {
			t.Error("the error shows the PIN")
		}
	}
	if n := calls(f, "C_Login") - before; n != 4 {
		t.Errorf("a wrong PIN was shown %d times, want once", n-3)
	}
	putPIN(t, cfg.PINFile, token.PIN())
	if err := signOnce(t, t.Context(), sig); err != nil {
		t.Errorf("with the right PIN again: %v", err)
	}
}

// A repair reads the PIN again. A wrong PIN is tried once under any load, and when the
// right one is in the file the backend works again.
func TestRepairWithWrongPIN(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	f, cfg := newFaulty(t, token)
	cfg.PINFile = filepath.Join(t.TempDir(), "pin")
	putPIN(t, cfg.PINFile, token.PIN())
	b := mustOpen(t, cfg)
	k := mustOpenKey(t, b, ref)
	logOut := func() {
		t.Helper()
		raw := openRaw(t, token)
		if err := raw.ctx.Logout(raw.s); err != nil {
			t.Fatal(err)
		}
	}

	for i, pin := range []string{"wrong-pin-of-repair-1", "wrong-pin-of-repair-2"} {
		putPIN(t, cfg.PINFile, pin)
		if i == 0 {
			logOut()
		}
		waitFor(t, func() bool { return calls(f, "C_Login") == i+2 || signOnce(t, t.Context(), k) == nil })
		wantError(t, signOnce(t, t.Context(), k), signer.ErrUnavailable, cfg.PINFile)
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err := signOnce(t, t.Context(), k); !errors.Is(err, signer.ErrUnavailable) {
			t.Fatalf("with a wrong PIN: %v", err)
		}
	}
	if n := calls(f, "C_Login"); n != 3 {
		t.Errorf("%d logins, want one at first and one for each wrong PIN", n)
	}
	if n := calls(f, "C_Initialize"); n != 1 {
		t.Errorf("the module was initialised %d times: a new initialisation does not help a wrong PIN", n)
	}

	putPIN(t, cfg.PINFile, token.PIN())
	waitFor(t, func() bool { return signOnce(t, t.Context(), k) == nil })
	if n := calls(f, "C_Login"); n != 4 {
		t.Errorf("%d logins, want one more", n)
	}

	for what, flag := range map[string]string{"locked": "USER_PIN_LOCKED", "one more wrong PIN": "USER_PIN_FINAL_TRY"} {
		before := calls(f, "C_Login")
		lift := f.Inject("token-flags +" + flag)
		logOut()
		wantError(t, signOnce(t, t.Context(), k), signer.ErrUnavailable, what)
		time.Sleep(500 * time.Millisecond)
		if n := calls(f, "C_Login") - before; n != 0 {
			t.Errorf("%s: %d login attempts", what, n)
		}
		lift()
		waitFor(t, func() bool { return signOnce(t, t.Context(), k) == nil })
	}
}
