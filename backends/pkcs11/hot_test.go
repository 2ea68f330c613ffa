//go:build cgo && unix

package pkcs11_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/signer/supervise"
	"signetd/softhsm"
)

// rss is the resident memory of this process in bytes.
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

// grows is by how much n calls of f make the process grow, once it is warm.
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

// Ciphertexts that do not decrypt are for anybody to send, so they must cost no
// memory. The fault module answers 100,000 by itself, or a million in `make soak`
// (LEAK_COUNT), and SoftHSM2 some thousands. They come as in the daemon, without a
// goroutine for each: of those the race detector keeps a few hundred bytes of its own.
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

func newHot(t testing.TB, b *pkcs11.Backend, k signer.Key) *pkcs11.Hot {
	t.Helper()
	h, err := pkcs11.NewHot(b, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func TestHotCallsDoNotAllocate(t *testing.T) {
	token := softhsm.New(t)
	sigRef := token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	encRef := token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	b := mustOpen(t, token.Config())
	sig, enc := mustOpenKey(t, b, sigRef), mustOpenKey(t, b, encRef)
	signs, opens := newHot(t, b, sig), newHot(t, b, enc)
	digest := digestFor(signer.ES256)
	ct := encryptTo(t, enc.Public(), signer.RSAOAEP, []byte("cek"))
	out := make([]byte, 256)
	for name, f := range map[string]func() error{
		"sign":    func() error { return signs.Sign(digest, out) },
		"decrypt": func() error { return opens.Decrypt(ct, out) },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// What a module leaves in the buffer when it fails is wiped.
func TestFailedCallWipesOutput(t *testing.T) {
	token := softhsm.New(t)
	ref := token.Generate(t, "enc", provision.RSA2048, signer.UseEnc)
	f, cfg := newFaulty(t, token)
	b := mustOpen(t, cfg)
	k := mustOpenKey(t, b, ref)
	h := newHot(t, b, k)
	f.Inject("C_Decrypt * rv=CKR_ENCRYPTED_DATA_INVALID") // after the token has written the plaintext
	out := bytes.Repeat([]byte{1}, 256)
	if err := h.Decrypt(encryptTo(t, k.Public(), signer.RSAOAEP, []byte("plaintext")), out); err == nil {
		t.Fatal("no error")
	}
	if !bytes.Equal(out, make([]byte, 256)) {
		t.Errorf("left in the buffer: %x", out)
	}
}

// The words of the dynamic loader reach the operator.
func TestLoaderErrors(t *testing.T) {
	token := softhsm.New(t)
	dir := t.TempDir()
	source := filepath.Join(dir, "m.c")
	if err := os.WriteFile(source, []byte("extern void nobody_has_this(void);\nlong C_GetFunctionList(void **f) { nobody_has_this(); return 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := token.Config()
	cfg.Module = filepath.Join(dir, "m.so")
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", cfg.Module, source).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v: %s", err, out)
	}
	_, err := pkcs11.Open(t.Context(), cfg)
	wantError(t, err, signer.ErrUnavailable, cfg.Module, "undefined symbol: nobody_has_this")

	for name, body := range map[string]string{"CKR_DEVICE_ERROR": "return 0x30;", "no functions": "*f = 0; return 0;"} {
		if err := os.WriteFile(source, []byte("long C_GetFunctionList(void **f) { "+body+" }\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.Module = filepath.Join(dir, name+".so")
		if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", cfg.Module, source).CombinedOutput(); err != nil {
			t.Fatalf("cc: %v: %s", err, out)
		}
		_, err := pkcs11.Open(t.Context(), cfg)
		wantError(t, err, signer.ErrUnavailable, name)
	}
}

// BenchmarkHot compares, in one run, the calls of this package with those of
// the binding that they replaced.
func BenchmarkHot(b *testing.B) {
	token := softhsm.New(b)
	sigRef := token.Generate(b, "sig", provision.ECP256, signer.UseSig)
	encRef := token.Generate(b, "enc", provision.RSA2048, signer.UseEnc)
	backend, err := pkcs11.Open(b.Context(), token.Config())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = backend.Close() })
	open := func(ref string) *pkcs11.Hot {
		k, err := backend.OpenKey(b.Context(), ref)
		if err != nil {
			b.Fatal(err)
		}
		return newHot(b, backend, k)
	}
	sig, enc := open(sigRef), open(encRef)
	digest, out := digestFor(signer.ES256), make([]byte, 256)
	ct := bytes.Repeat([]byte{1}, 256) // does not decrypt: the path that leaked
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
	run("sign/binding", func() { _, _ = sig.SignByBinding(digest) })
	run("sign/hot", func() { _ = sig.Sign(digest, out) })
	run("bad-ciphertext/binding", func() { _, _ = enc.DecryptByBinding(ct) })
	run("bad-ciphertext/hot", func() { _ = enc.Decrypt(ct, out) })
}
