//go:build cgo && unix

package pkcs11_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11"
	"signetd/signer"
	"signetd/signer/supervise"
)

// hotKeys makes a key of each kind that the hot path has a call for.
func hotKeys(t *testing.T, r rig) (unwraps, agrees, aes signer.Key) {
	t.Helper()
	r.raw.rsa(2048, "rsa", "\x01", unwrapOnly())
	r.raw.ec(oidP256, "ec", "\x02", attrs{p11.CKA_SIGN: false, p11.CKA_DERIVE: true})
	r.raw.secret(p11.CKK_AES, "aes", "\x03", make([]byte, 32), aesUses())
	return mustOpenKey(t, r.b, "pkcs11:object=rsa"), mustOpenKey(t, r.b, "pkcs11:object=ec"), mustOpenKey(t, r.b, "pkcs11:object=aes")
}

func hotUse(t *testing.T, b *pkcs11.Backend, k signer.Key) *pkcs11.HotUse {
	t.Helper()
	u, err := pkcs11.NewHotUse(b, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

func TestNewHotCallsDoNotAllocate(t *testing.T) {
	r := newRig(t)
	unwraps, agrees, secret := hotKeys(t, r)
	u, a, s := hotUse(t, r.b, unwraps), hotUse(t, r.b, agrees), hotUse(t, r.b, secret)
	content := sealedCEK(t, unwraps.Public().(*rsa.PublicKey), make([]byte, 32), "A256GCM")
	sealed := append(content.Ciphertext, content.Tag...)
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, iv, aad, text := peer.PublicKey().Bytes(), make([]byte, 12), []byte("aad"), make([]byte, 32)
	z, out, made := make([]byte, 32), make([]byte, 256), make([]byte, 48)
	for _, tt := range []struct {
		name string
		f    func() error
	}{
		{"unwrap and read", func() error { return u.Unwrap(content.EncryptedKey, out) }},
		{"unwrap and decrypt", func() error { return u.OpenWithin(content.EncryptedKey, content.IV, content.AAD, sealed, out) }},
		{"derive and read", func() error { return a.Derive(point, z) }},
		{"encrypt", func() error { return s.Seal(iv, aad, text, made) }},
		{"decrypt", func() error { return s.Open(iv, aad, made, out) }},
		{"wrap", func() error { return s.Wrap(text, made[:40]) }},
	} {
		if n := testing.AllocsPerRun(20, func() {
			if err := tt.f(); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
	r.raw.wantNoSessionKeys()
}

// What fails because of what a stranger sent costs no memory, and leaves no object.
func TestFailingCallsLeakNothing(t *testing.T) {
	r := newRig(t)
	unwraps, agrees, secret := hotKeys(t, r)
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
		rule string // by which SoftHSM2 is spared the work, or what it has no failure for fails
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
