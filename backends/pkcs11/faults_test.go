//go:build cgo

package pkcs11_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// signOnce signs with ES256 and checks the signature.
func signOnce(t *testing.T, ctx context.Context, k signer.Key) error {
	t.Helper()
	digest := digestFor(signer.ES256)
	sig, err := k.(signer.Signer).SignContext(ctx, digest, signer.ES256.SignerOpts())
	if err == nil {
		checkSignature(t, k.Public(), signer.ES256, digest, sig)
	}
	return err
}

// A request that meets a lost session is tried once more on another one. If that fails,
// too, its caller gets the error.
func TestLostSessionIsReplaced(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	f, cfg := newFaulty(t, token)
	cfg.Sessions = 1
	k := mustOpenKey(t, mustOpen(t, cfg), ref)

	tests := []struct {
		where string
		rv    uint
		is    error
		drops bool
	}{
		{"C_SignInit", p11.CKR_KEY_HANDLE_INVALID, signer.ErrUnavailable, true},
		{"C_SignInit", p11.CKR_KEY_TYPE_INCONSISTENT, signer.ErrUnavailable, true},
		{"C_SignInit", p11.CKR_OBJECT_HANDLE_INVALID, signer.ErrUnavailable, true},
		{"C_SignInit", p11.CKR_USER_NOT_LOGGED_IN, signer.ErrUnavailable, true},
		{"C_SignInit", p11.CKR_SESSION_CLOSED, signer.ErrUnavailable, true},
		{"C_SignInit", p11.CKR_OPERATION_ACTIVE, signer.ErrUnavailable, true},
		{"C_Sign", p11.CKR_SESSION_HANDLE_INVALID, signer.ErrUnavailable, true},
		{"C_Sign", p11.CKR_DEVICE_REMOVED, signer.ErrUnavailable, true},
		{"C_Sign", p11.CKR_GENERAL_ERROR, signer.ErrUnavailable, true},
		{"C_Sign", p11.CKR_HOST_MEMORY, signer.ErrOverloaded, false},
		{"C_Sign", p11.CKR_DATA_LEN_RANGE, signer.ErrUnsupported, false},
	}

	for _, tt := range tests {
		t.Run(p11.Error(tt.rv).Error(), func(t *testing.T) {
			opened := calls(f, "sessions")
			lift := f.Inject(answers(tt.where, tt.rv))
			wantError(t, signOnce(t, t.Context(), k), tt.is, "answered 0x")
			lift()
			if err := signOnce(t, t.Context(), k); err != nil {
				t.Fatalf("after the fault: %v", err)
			}
			if dropped := calls(f, "sessions") > opened; dropped != tt.drops {
				t.Errorf("session replaced: %t, want %t", dropped, tt.drops)
			}
		})
	}
}

// While the token cannot even find its keys, requests are refused at once.
func TestRepairThatFails(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	f, cfg := newFaulty(t, token)
	b := mustOpen(t, cfg)
	k := mustOpenKey(t, b, ref)
	f.Inject("C_SignInit * rv=CKR_OBJECT_HANDLE_INVALID", "C_FindObjectsInit * rv=CKR_SESSION_HANDLE_INVALID")

	for range 3 {
		wantError(t, signOnce(t, t.Context(), k), signer.ErrUnavailable, "C_FindObjectsInit")
	}
	wantError(t, b.Ping(t.Context()), signer.ErrUnavailable, "C_FindObjectsInit")
	if !b.Stats().Down {
		t.Error("Stats does not say so")
	}
	f.Clear()
	waitFor(t, func() bool { return signOnce(t, t.Context(), k) == nil })
	if b.Stats().Down {
		t.Error("Stats says that it is down when it is not")
	}
}

func TestReplacedKeyIsNoticed(t *testing.T) {
	token := softhsm.New(t)
	b := mustOpen(t, token.Config())
	raw := openRaw(t, token)
	pub, priv := raw.ec(oidP256, "k", "\x01", attrs{p11.CKA_SIGN: true})
	k := mustOpenKey(t, b, "pkcs11:object=k")
	raw.destroy(pub, priv)
	err := signOnce(t, t.Context(), k)
	wantError(t, err, signer.ErrUnavailable, "cannot be found again")
	if errors.Is(err, signer.ErrNotFound) {
		t.Errorf("%v is ErrNotFound, too", err)
	}
	raw.ec(oidP256, "k", "\x01", attrs{p11.CKA_SIGN: true})
	wantError(t, signOnce(t, t.Context(), k), signer.ErrUnavailable, "another key has its name")
}

// The caller gets ErrDecrypt for every answer of a token to a ciphertext, and the session
// stays: bad ciphertexts must not cost sessions.
func TestDecryptAnswers(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	f, cfg := newFaulty(t, token)
	cfg.Sessions = 1
	k := mustOpenKey(t, mustOpen(t, cfg), ref).(signer.Decrypter)

	for _, alg := range []signer.Alg{signer.RSAOAEP, signer.RSAOAEP256} { // decrypted by the token itself, and by the raw operation
		ct := encryptTo(t, k.Public(), alg, []byte("cek"))
		for _, rv := range []uint{5, 6, 7, 0x20, 0x21, 0x30, 0x40, 0x41, 0x62, 0x110, 0x112, 0x80000001} {
			opened := calls(f, "sessions")
			lift := f.Inject(answers("C_Decrypt", rv))
			if _, err := k.DecryptContext(t.Context(), ct, alg.DecrypterOpts()); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
				t.Errorf("%s, %#x: %v, want ErrDecrypt itself", alg, rv, err)
			}
			lift()
			if got, err := k.DecryptContext(t.Context(), ct, alg.DecrypterOpts()); err != nil || string(got) != "cek" {
				t.Errorf("%s, after %#x: %v", alg, rv, err)
			}
			if calls(f, "sessions") != opened {
				t.Errorf("%s, %#x: the session was replaced", alg, rv)
			}
		}

		for _, where := range []string{"C_DecryptInit", "C_Decrypt"} {
			lift := f.Inject(answers(where, p11.CKR_SESSION_HANDLE_INVALID))
			_, err := k.DecryptContext(t.Context(), ct, alg.DecrypterOpts())
			wantError(t, err, signer.ErrUnavailable)
			lift()
			if _, err := k.DecryptContext(t.Context(), ct, alg.DecrypterOpts()); err != nil {
				t.Errorf("%s, on a new session: %v", alg, err)
			}
		}
	}
}

func TestSessionsAreBounded(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)

	tests := []struct {
		config    int
		tokenMax  int
		wantOpens int // including the one that keeps the login
	}{
		{3, 0, 4},
		{8, 3, 3},
		{1, 0, 2},
	}

	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d of %d", tt.config, tt.tokenMax), func(t *testing.T) {
			f, cfg := newFaulty(t, token)
			cfg.Sessions = tt.config
			if tt.tokenMax > 0 {
				f.Inject(fmt.Sprintf("sessions %d", tt.tokenMax))
			}
			k := mustOpenKey(t, mustOpen(t, cfg), ref)
			lift := f.Inject("C_Sign * hang")
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					if err := signOnce(t, t.Context(), k); err != nil {
						t.Error(err)
					}
				})
			}
			waitFor(t, func() bool { return f.Count("C_Sign").Running == tt.wantOpens-1 })
			lift()
			wg.Wait()
			if n := calls(f, "sessions"); n != tt.wantOpens {
				t.Errorf("%d sessions, want %d", n, tt.wantOpens)
			}
		})
	}
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !what(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited for 10 s in vain")
		}
	}
}

// A caller leaves a call that hangs at its deadline. If the call has the last session, the
// next request is refused at once. Close waits for the call.
func TestHangingToken(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	f, cfg := newFaulty(t, token)
	cfg.Sessions = 1
	b := mustOpen(t, cfg)
	k := mustOpenKey(t, b, ref)

	before := calls(f, "C_Sign")
	lift := f.Inject("C_Sign * hang")

	for _, want := range []error{context.DeadlineExceeded, signer.ErrUnavailable} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		start := time.Now()
		wantError(t, signOnce(t, ctx, k), want)
		cancel()
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("it took %v to give up after 1s", d)
		}
	}

	if err := b.Ping(t.Context()); err != nil {
		t.Errorf("Ping while the only session is busy: %v", err)
	}

	closed := make(chan error)
	go func() { closed <- b.Close() }() // ends when the gate opens
	select {
	case err := <-closed:
		t.Fatalf("Close did not wait for the call that runs: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	wantError(t, signOnce(t, t.Context(), k), signer.ErrUnavailable, "closed")

	lift()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if n := calls(f, "C_Sign") - before; n != 1 {
		t.Errorf("%d signatures were made, want only the one that was begun", n)
	}
}

func TestCloseWhileBusy(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	_, cfg := newFaulty(t, token)
	b := mustOpen(t, cfg)
	k := mustOpenKey(t, b, ref)
	var wg sync.WaitGroup

	for range 64 {
		wg.Go(func() {
			for {
				if err := signOnce(t, t.Context(), k); err != nil {
					if !errors.Is(err, signer.ErrUnavailable) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond)

	for range 2 {
		wg.Go(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, err := b.OpenKey(t.Context(), ref)
	wantError(t, err, signer.ErrUnavailable, "closed")
}

func TestManyCallers(t *testing.T) {
	token := softhsm.New(t)
	sigRef := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	encRef := token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	_, cfg := newFaulty(t, token)
	cfg.Sessions = 4
	b := mustOpen(t, cfg)
	sig, enc := mustOpenKey(t, b, sigRef), mustOpenKey(t, b, encRef).(signer.Decrypter)
	var wg sync.WaitGroup

	for i := range 64 {
		plaintext := fmt.Sprintf("cek %d", i)
		ct := encryptTo(t, enc.Public(), signer.RSAOAEP256, []byte(plaintext))
		wg.Go(func() {
			for range 4 {
				if err := signOnce(t, t.Context(), sig); err != nil {
					t.Error(err)
				}
				got, err := enc.DecryptContext(t.Context(), ct, signer.RSAOAEP256.DecrypterOpts())
				if err != nil || string(got) != plaintext {
					t.Errorf("decrypt: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// Callers that leave at any moment leave no session or call behind.
func TestImpatientCallers(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	_, cfg := newFaulty(t, token)
	cfg.Sessions = 2
	b := mustOpen(t, cfg)
	k := mustOpenKey(t, b, ref)
	var wg sync.WaitGroup

	for i := range 32 {
		wg.Go(func() {
			for j := range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*j)*10*time.Microsecond)
				if err := signOnce(t, ctx, k); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if err := signOnce(t, t.Context(), k); err != nil {
		t.Error(err)
	}
}

func TestTwoBackendsWork(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	_, cfg := newFaulty(t, token)
	var backends []*pkcs11.Backend
	for range 2 {
		backends = append(backends, mustOpen(t, cfg))
	}

	old, now := mustOpenKey(t, backends[0], ref), mustOpenKey(t, backends[1], ref)
	if err := signOnce(t, t.Context(), old); err != nil {
		t.Error(err)
	}

	if err := backends[0].Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, signOnce(t, t.Context(), old), signer.ErrUnavailable, "closed")
	if err := signOnce(t, t.Context(), now); err != nil {
		t.Errorf("after the old backend closed: %v", err)
	}
}
