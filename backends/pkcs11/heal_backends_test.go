//go:build cgo && unix

package pkcs11_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// Two backends on one token and one on another token share a module. When it has to be
// initialised anew, all of them work again, with one login for each token.
func TestBackendsHealTogether(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	if _, err := token.AddToken("other"); err != nil {
		t.Fatal(err)
	}
	f, cfg := newFaulty(t, token)
	elsewhere := cfg
	elsewhere.Token = "other"
	first, second, other := mustOpen(t, cfg), mustOpen(t, cfg), mustOpen(t, elsewhere)
	raw := openRaw(t, token)
	raw.ec(oidP256, "second", "\x07", attrs{p11.CKA_SIGN: true})
	keys := []signer.Key{mustOpenKey(t, first, ref), mustOpenKey(t, second, "pkcs11:object=second")}

	loads := []*load{startLoad(t, signing(t, keys[0])), startLoad(t, signing(t, keys[1]))}
	for round := range 5 {
		inits, ins := calls(f, "C_Initialize"), calls(f, "C_Login")
		lift := f.Inject("* * rv=CKR_DEVICE_REMOVED until=C_Initialize")
		for i, k := range keys {
			waitFor(t, func() bool { return calls(f, "C_Initialize") > inits && signOnce(t, t.Context(), k) == nil })
			if err := signOnce(t, t.Context(), k); err != nil {
				t.Errorf("round %d, key %d: %v", round, i, err)
			}
		}
		waitFor(t, func() bool { return other.Ping(t.Context()) == nil })
		if n := calls(f, "C_Initialize") - inits; n != 1 {
			t.Errorf("round %d: the module was initialised %d times", round, n)
		}
		waitFor(t, func() bool { return calls(f, "C_Login")-ins == 2 })
		for _, l := range loads { // a request is tried twice, not once in each of two outages
			l.settle(t)
		}
		lift()
	}
	for i, l := range loads {
		l.end()
		if n := l.failed.Load(); n != 0 {
			t.Errorf("backend %d: %d requests failed, one with %v; %d did not", i, n, *l.last.Load(), l.done.Load())
		}
	}
}

// A key that was opened many times, as one is that its version refuses, costs a repair no
// more than one that was opened once. Each of them works after the repair.
func TestRepairAfterManyOpenings(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	f, cfg := newFaulty(t, token)
	b := mustOpen(t, cfg)

	repair := func(k signer.Key) (searches int) {
		before, inits := calls(f, "C_FindObjectsInit"), calls(f, "C_Initialize")
		lift := f.Inject("* * rv=CKR_DEVICE_REMOVED until=C_Initialize")
		defer lift()
		waitFor(t, func() bool { return signOnce(t, t.Context(), k) == nil && calls(f, "C_Initialize") > inits })
		return calls(f, "C_FindObjectsInit") - before
	}

	first := mustOpenKey(t, b, ref)
	once := repair(first)
	var last signer.Key
	for range 20 {
		last = mustOpenKey(t, b, ref)
	}
	if again := repair(last); again > 3*once {
		t.Errorf("a repair searches %d times, and %d times after the key was opened 20 times more", once, again)
	}
	if err := signOnce(t, t.Context(), first); err != nil {
		t.Errorf("the key that was opened first: %v", err)
	}
}

// A token in the place of the one that was deleted is not used, even with the same label.
func TestTokenThatIsDeleted(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	b := mustOpen(t, token.Config())
	k := mustOpenKey(t, b, ref)
	tokens := filepath.Join(filepath.Dir(token.Conf()), "tokens")
	away := filepath.Join(t.TempDir(), "away")
	if err := os.Rename(tokens, away); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return signOnce(t, t.Context(), k) != nil })
	if _, err := token.AddToken(token.Label()); err != nil { // the same label, another serial number
		t.Fatal(err)
	}

	for range 20 {
		wantError(t, signOnce(t, t.Context(), k), signer.ErrUnavailable, "token")
		time.Sleep(50 * time.Millisecond)
	}
	if err := os.Rename(tokens, away+" too"); err != nil { // not removed: the module may be writing to it
		t.Fatal(err)
	}
	if err := os.Rename(away, tokens); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	waitFor(t, func() bool { return signOnce(t, t.Context(), k) == nil })
	if d := time.Since(start); d > time.Second {
		t.Errorf("healthy only %v after the token was back", d)
	}
}

// Bad ciphertexts begin no repair, and make us look at the token no more than once a
// second. A lost device that answers like a bad ciphertext is noticed.
func TestBadCiphertextsAreNoLostDevice(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	f, cfg := newFaulty(t, token)
	b := mustOpen(t, cfg)
	k := mustOpenKey(t, b, ref).(signer.Decrypter)
	ct := encryptTo(t, k.Public(), signer.RSAOAEP, []byte("cek"))
	open := func() error {
		_, err := k.DecryptContext(t.Context(), ct, signer.RSAOAEP.DecrypterOpts())
		return err
	}
	f.Inject("C_Decrypt * rv=CKR_DEVICE_ERROR")
	probes := calls(f, "C_GetTokenInfo")
	start := time.Now()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for time.Since(start) < 1500*time.Millisecond {
				if err := open(); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
					t.Errorf("%v, want ErrDecrypt itself", err)
				}
			}
		})
	}
	wg.Wait()
	if n := calls(f, "C_GetTokenInfo") - probes; n < 1 || n > 2 {
		t.Errorf("the token was asked %d times in 1.5 s", n)
	}
	if st := b.Stats(); st.RepairsTotal != 0 || st.RestartsTotal != 0 {
		t.Errorf("garbage began repairs: %+v", st)
	}

	// The device is gone, and C_Decrypt answers the same as for a bad ciphertext.
	time.Sleep(time.Second)
	f.Inject("C_GetTokenInfo * rv=CKR_DEVICE_ERROR")
	if err := open(); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
		t.Errorf("%v, want ErrDecrypt itself", err)
	}
	waitFor(t, func() bool { return b.Stats().Down })
	f.Clear()
	waitFor(t, func() bool { return open() == nil })
}

// Idle sessions are used before the token would drop them. A session that was dropped
// nevertheless is noticed before a request meets it.
func TestKeepAlive(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	f, cfg := newFaulty(t, token)
	cfg.KeepAlive = "1s"
	b := mustOpen(t, cfg)
	k := mustOpenKey(t, b, ref)

	before := calls(f, "C_GetSessionInfo")
	time.Sleep(1200 * time.Millisecond)
	if n := calls(f, "C_GetSessionInfo") - before; n < 2 { // the session and the one that keeps the login
		t.Errorf("%d calls on idle sessions", n)
	}

	f.Inject("C_SignInit * old rv=CKR_SESSION_HANDLE_INVALID", "C_GetSessionInfo * old rv=CKR_SESSION_HANDLE_INVALID")
	waitFor(t, func() bool { return b.Stats().RepairsTotal == 1 })
	if err := signOnce(t, t.Context(), k); err != nil {
		t.Error(err)
	}
	if n := b.Stats().RepairsTotal; n != 1 {
		t.Errorf("%d repairs: the request met one", n)
	}
}

func TestInitArgs(t *testing.T) {
	token := softhsm.New(t)
	f, cfg := newFaulty(t, token)
	cfg.InitArgs = "configdir='sql:/dir' flags="
	f.Inject("init-args " + cfg.InitArgs)
	b := mustOpen(t, cfg)
	other := cfg
	other.InitArgs = "flags="
	_, err := pkcs11.Open(t.Context(), other)
	wantError(t, err, signer.ErrInvalid, "init_args", "once per process")
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
