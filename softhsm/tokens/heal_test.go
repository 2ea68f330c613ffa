//go:build linux && cgo

package tokens_test

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm/tokens"
)

// open opens the token for as long as the test.
func open(t *testing.T, cfg pkcs11.Config) *pkcs11.Backend {
	t.Helper()
	b, err := pkcs11.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func openSigner(t *testing.T, b *pkcs11.Backend, ref string) signer.Signer {
	t.Helper()
	k, err := b.OpenKey(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := k.(signer.Signer)
	if !ok {
		t.Fatalf("a key of type %T does not sign", k)
	}
	return s
}

// signOnce signs something new and requires that a signature, if there is one, is
// right.
func signOnce(t *testing.T, k signer.Signer, n int64) error {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	digest := fmt.Appendf(nil, "%032d", n)
	sig, err := k.SignContext(ctx, digest, signer.ES256.SignerOpts())
	if err != nil {
		return err
	}
	if pub, ok := k.Public().(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(pub, digest, sig) {
		t.Error("a signature that does not verify")
	}
	return nil
}

// TestCutUnderLoad pulls the cable twenty times while eight clients sign. Each
// outage ends without a restart, an error is one that a client may retry, and
// every signature is right.
func TestCutUnderLoad(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewP11Kit(t)
	ref := token.Generate(t, "oidc", provision.ECP256, signer.UseSig)
	cfg := token.Config()
	cfg.Sessions = 1 // with more, a call in p11-kit's client (0.24.1) sometimes never returns from a cut
	k := openSigner(t, open(t, cfg), ref)
	var signed, failed atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch err := signOnce(t, k, signed.Load()); {
				case err == nil:
					signed.Add(1)
				case errors.Is(err, signer.ErrUnavailable), errors.Is(err, signer.ErrOverloaded):
					failed.Add(1)
					time.Sleep(time.Millisecond)
				default:
					t.Errorf("SignContext() = %v, want one to be retried", err)
					return
				}
			}
		})
	}
	var longest time.Duration

	for i := range 20 {
		token.Cut(t)
		before, start := signed.Load(), time.Now()
		for signed.Load() < before+20 { // more than were on their way
			if time.Since(start) > 20*time.Second {
				t.Fatalf("cut %d: no signature for %v", i+1, time.Since(start))
			}
			time.Sleep(time.Millisecond)
		}
		longest = max(longest, time.Since(start))
	}
	close(stop)
	wg.Wait()
	t.Logf("20 cuts: %d signatures, %d failures, 20 new signatures after %v at most", signed.Load(), failed.Load(), longest)
}

// TestNewPIN takes the token away while the PIN file holds a wrong PIN. The
// backend tries that once, and says which file it is; the right PIN in that file
// heals it.
func TestNewPIN(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewP11Kit(t)
	ref := token.Generate(t, "oidc", provision.ECP256, signer.UseSig)
	k := openSigner(t, open(t, token.Config()), ref)
	if err := signOnce(t, k, 1); err != nil {
		t.Fatal(err)
	}
	writePIN(t, token, "not-the-pin")
	token.Cut(t)
	err := until(t, func() error {
		err := signOnce(t, k, 2)
		if err == nil || !strings.Contains(err.Error(), token.PINFile()) {
			return fmt.Errorf("SignContext() = %w, want an error that names %s", err, token.PINFile())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	writePIN(t, token, token.PIN())
	if err := until(t, func() error { return signOnce(t, k, 3) }); err != nil {
		t.Errorf("with the right PIN in the file: %v", err)
	}
}

// TestWrongPINDoesNotLock opens a token that locks at the third wrong PIN ten
// times with one wrong PIN. One attempt is made.
func TestWrongPINDoesNotLock(t *testing.T) {
	if !runAlone(t) {
		return
	}
	token := tokens.NewOpencryptoki(t)
	right := token.PIN()
	writePIN(t, token, "wrong1")

	for i := range 10 {
		b, err := pkcs11.Open(t.Context(), token.Config())
		if err == nil {
			t.Fatal(b.Close(), "a wrong PIN opens the token")
		}
		if !errors.Is(err, signer.ErrUnavailable) || !strings.Contains(err.Error(), token.PINFile()) || strings.Contains(err.Error(), "wrong1") {
			t.Errorf("Open() number %d = %v, want ErrUnavailable that names the file", i+1, err)
		}
	}
	writePIN(t, token, right)
	open(t, token.Config())
}

func writePIN(t *testing.T, token *tokens.Token, pin string) {
	t.Helper()
	if err := os.WriteFile(token.PINFile(), []byte(pin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// until repeats f until it succeeds, for 20 seconds, and returns its last error.
func until(t *testing.T, f func() error) error {
	t.Helper()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil || time.Since(start) > 20*time.Second {
			return err
		}
	}
}
