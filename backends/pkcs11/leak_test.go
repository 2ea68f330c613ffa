//go:build cgo && unix

package pkcs11_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/signer/supervise"
	"signetd/softhsm"
)

// rss returns the resident memory of this process in bytes.
func rss(t *testing.T) int {
	t.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

// grows returns by how many bytes n calls of f make the process grow, after a warm-up.
func grows(t *testing.T, n int, f func()) int {
	t.Helper()
	for range n / 4 {
		f()
	}
	debug.FreeOSMemory()
	before := rss(t)
	for range n {
		f()
	}
	debug.FreeOSMemory()
	return rss(t) - before
}

// Any program can send ciphertexts that do not decrypt, so they must cost no memory. The
// fault module answers 100,000 by itself, or a million in `make soak` (LEAK_COUNT), and
// SoftHSM2 answers some thousands. As in the daemon, there is no goroutine for each one: the
// race detector keeps a few hundred bytes for every goroutine that ever ran.
func TestFailingDecryptionsLeakNothing(t *testing.T) {
	many := 100_000
	if text := os.Getenv("LEAK_COUNT"); text != "" {
		var err error
		if many, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	token := softhsm.New(t)
	ref := token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	f, cfg := newFaulty(t, token)
	k := mustOpenKey(t, mustOpen(t, cfg), ref).(signer.Decrypter)

	tests := []struct {
		name    string
		alg     signer.Alg
		instant bool
		n       int
	}{
		{"native", signer.RSAOAEP, true, many},
		{"raw", signer.RSAOAEP256, true, many},
		{"native, SoftHSM2", signer.RSAOAEP, false, 4000},
		{"raw, SoftHSM2", signer.RSAOAEP256, false, 4000},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ct := encryptTo(t, k.Public(), tt.alg, []byte("cek"))
			ct[0], ct[100] = 0, ct[100]^1
			n := tt.n
			if testing.Short() {
				n /= 10
			}
			if tt.instant { // without the token
				defer f.Inject("C_DecryptInit * rv=CKR_OK", "C_Decrypt * leave rv=CKR_ENCRYPTED_DATA_INVALID")()
			}
			ctx := supervise.NewContext(time.Hour)
			grown := grows(t, n, func() {
				if _, err := k.DecryptContext(ctx, ct, tt.alg.DecrypterOpts()); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
					t.Fatalf("%v, want ErrDecrypt itself", err)
				}
			})
			t.Logf("%d failing decryptions: %+d KiB", n, grown>>10)
			if grown > 8<<20 {
				t.Errorf("the process grew by %d bytes, %d for each", grown, grown/n)
			}
		})
	}
}

// leakKeys makes a key for each of the fast calls.
func leakKeys(t *testing.T, r rig) (unwraps, agrees, aes signer.Key) {
	t.Helper()
	r.raw.rsa(2048, "rsa", "\x01", unwrapOnly())
	r.raw.ec(oidP256, "ec", "\x02", attrs{p11.CKA_SIGN: false, p11.CKA_DERIVE: true})
	r.raw.secret(p11.CKK_AES, "aes", "\x03", make([]byte, 32), aesUses())
	return mustOpenKey(t, r.b, "pkcs11:object=rsa"), mustOpenKey(t, r.b, "pkcs11:object=ec"), mustOpenKey(t, r.b, "pkcs11:object=aes")
}

// Calls that fail because of their input cost no memory, and leave no object behind.
func TestFailingCallsLeakNothing(t *testing.T) {
	r := newRig(t)
	unwraps, agrees, secret := leakKeys(t, r)
	held := mustOpenKey(t, r.holding(t), "pkcs11:object=rsa").(signer.ContentDecrypter)
	pub := unwraps.Public().(*rsa.PublicKey)
	badKey, badText := sealedCEK(t, pub, make([]byte, 32), "A256GCM"), sealedCEK(t, pub, make([]byte, 32), "A256GCM")
	badKey.EncryptedKey[0], badKey.EncryptedKey[100] = 0, badKey.EncryptedKey[100]^1
	badText.Tag[0] ^= 1
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bad := make([]byte, 4096)
	ctx := supervise.NewContext(time.Hour) // as in the daemon: see TestFailingDecryptionsLeakNothing

	tests := []struct {
		name string
		rule string // fails the call without SoftHSM2, or where SoftHSM2 cannot fail
		n    int
		f    func() error
	}{
		{"unwrap", "C_UnwrapKey * rv=CKR_GENERAL_ERROR", 10_000, func() error {
			_, err := unwraps.(signer.Decrypter).DecryptContext(ctx, badKey.EncryptedKey, signer.RSAOAEP.DecrypterOpts())
			return err
		}},
		{"read", "C_GetAttributeValue * rv=CKR_GENERAL_ERROR", 10_000, func() error {
			_, err := agrees.(signer.Agreer).AgreeContext(ctx, peer.PublicKey())
			return err
		}},
		{"derive", "C_DeriveKey * rv=CKR_GENERAL_ERROR", 10_000, func() error {
			_, err := agrees.(signer.Agreer).AgreeContext(ctx, peer.PublicKey())
			return err
		}},
		{"unwrap, SoftHSM2", "", 3000, func() error {
			_, err := held.DecryptContent(ctx, signer.RSAOAEP, badKey)
			return err
		}},
		{"content, SoftHSM2", "", 3000, func() error {
			_, err := held.DecryptContent(ctx, signer.RSAOAEP, badText)
			return err
		}},
		{"AES-GCM of 4 KiB, SoftHSM2", "", 10_000, func() error {
			_, err := secret.(signer.AEAD).OpenContext(ctx, bad[:12], bad, nil)
			return err
		}},
		{"AES key wrap, SoftHSM2", "", 10_000, func() error {
			_, err := secret.(signer.Wrapper).UnwrapContext(ctx, signer.WrapRFC3394, bad[:40])
			return err
		}},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := tt.n
			if testing.Short() {
				n /= 10
			}
			if tt.rule != "" {
				defer r.f.Inject(tt.rule)()
			}
			before := r.f.Counts()
			grown := grows(t, n, func() {
				if err := tt.f(); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
					t.Fatalf("%v, want ErrDecrypt itself", err)
				}
			})
			t.Logf("%d failures: %+d KiB", n, grown>>10)
			if grown > 8<<20 {
				t.Errorf("the process grew by %d bytes, %d for each", grown, grown/n)
			}
			if restarts := r.f.Count("C_Initialize").Calls - before["C_Initialize"].Calls; restarts != 0 {
				t.Errorf("the module was initialised anew %d times", restarts)
			}
			if opened := r.f.Count("sessions").Calls - before["sessions"].Calls; opened != 0 {
				t.Errorf("%d sessions were opened", opened)
			}
			r.raw.wantNoSessionKeys()
		})
	}
}
