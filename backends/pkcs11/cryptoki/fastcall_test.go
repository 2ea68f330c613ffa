//go:build cgo && unix

package cryptoki_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/cryptoki"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
	"signetd/softhsm/faultp11"
)

// openSession logs in to token through the library at path, and opens a session. The end of
// the test closes it, logs out, and finalises the module.
func openSession(t testing.TB, token *softhsm.Token, path string) *cryptoki.Session {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m, err := cryptoki.Acquire(path, "")
	must(err)
	t.Cleanup(func() { must(m.Release()) })
	m.Enter()
	t.Cleanup(m.Leave)

	slot, _, err := m.FindToken(cryptoki.TokenID{Label: token.Label()})
	must(err)
	login, err := m.Login(slot, cryptoki.Credential{PIN: []byte(token.PIN()), File: "the test"})
	must(err)
	t.Cleanup(func() { must(login.Logout()) })
	s, err := login.OpenSession()
	must(err)
	t.Cleanup(s.Close)
	return s
}

// find finds the only private or secret key with a label.
func find(t testing.TB, s *cryptoki.Session, class uint, label string) p11.ObjectHandle {
	t.Helper()
	found, err := s.Find([]*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_LABEL, label)})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d keys with label %q, %v", len(found), label, err)
	}
	return found[0]
}

var (
	rsaOAEP = cryptoki.NewMechanism(p11.CKM_RSA_PKCS_OAEP, p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, p11.CKZ_DATA_SPECIFIED, 0, 0)
	aesGCM  = cryptoki.NewMechanism(p11.CKM_AES_GCM)
	ecdsa   = cryptoki.NewMechanism(p11.CKM_ECDSA)
)

// encryptTo encrypts with RSA-OAEP and SHA-1.
func encryptTo(t testing.TB, key *rsa.PublicKey, plaintext []byte) []byte {
	t.Helper()
	ciphertext, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, key, plaintext, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

// generateRSA makes an RSA key with the label enc that decrypts and unwraps.
func generateRSA(t testing.TB, token *softhsm.Token) *rsa.PublicKey {
	t.Helper()
	k, err := provision.GenerateKey(provision.KeyOptions{
		Module: token.Module(), Token: token.Label(), PIN: []byte(token.PIN()), Label: "enc", Type: provision.RSA2048, Use: signer.UseEnc,
	})
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		t.Fatal(err)
	}
	return pub.(*rsa.PublicKey)
}

func TestFastCallsDoNotAllocate(t *testing.T) {
	token := softhsm.New(t)
	pub := generateRSA(t, token)
	token.Generate(t, "sig", provision.ECP256, signer.UseSig)
	token.Generate(t, "agree", provision.ECP256, signer.UseEnc)
	token.Generate(t, "aes", provision.AES256, signer.UseEnc)
	s := openSession(t, token, token.Module())
	sig, enc := find(t, s, p11.CKO_PRIVATE_KEY, "sig"), find(t, s, p11.CKO_PRIVATE_KEY, "enc")
	agree, secret := find(t, s, p11.CKO_PRIVATE_KEY, "agree"), find(t, s, p11.CKO_SECRET_KEY, "aes")

	cek, iv, aad, text := make([]byte, 32), make([]byte, 12), []byte("aad"), make([]byte, 32)
	rand.Read(iv)
	block, err := aes.NewCipher(cek)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, sealed := encryptTo(t, pub, cek), aead.Seal(nil, iv, text, aad)
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point := peer.PublicKey().Bytes()
	z, out, made := make([]byte, 32), make([]byte, 256), make([]byte, 48)
	readable, hidden := cryptoki.Object{Access: cryptoki.Readable}, cryptoki.Object{Access: cryptoki.Hidden}

	for _, tt := range []struct {
		name string
		f    func() (int, error)
	}{
		{"sign", func() (int, error) { return s.Sign(ecdsa, sig, nil, text, out) }},
		{"decrypt", func() (int, error) { return s.Decrypt(rsaOAEP, enc, nil, ciphertext, out) }},
		{"unwrap and read", func() (int, error) { return s.Unwrap(rsaOAEP, enc, readable, ciphertext, out) }},
		{"unwrap and decrypt", func() (int, error) {
			return s.UnwrapAndOpen(rsaOAEP, enc, hidden, len(cek), ciphertext, cryptoki.GCM{IV: iv, AAD: aad}, sealed, out)
		}},
		{"derive and read", func() (int, error) {
			return s.Derive(agree, cryptoki.Object{Access: cryptoki.Readable, Size: len(z)}, point, z)
		}},
		{"encrypt", func() (int, error) { return s.Seal(aesGCM, secret, nil, cryptoki.GCM{IV: iv, AAD: aad}, text, made) }},
		{"decrypt AES-GCM", func() (int, error) { return s.Open(aesGCM, secret, nil, cryptoki.GCM{IV: iv, AAD: aad}, made, out) }},
		{"wrap", func() (int, error) {
			return s.Wrap(cryptoki.NewMechanism(p11.CKM_AES_KEY_WRAP), secret, text, made[:40])
		}},
	} {
		if n := testing.AllocsPerRun(20, func() {
			if _, err := tt.f(); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}

	left, err := s.Find([]*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_TOKEN, false)})
	if err != nil || len(left) != 0 {
		t.Errorf("%d session objects are left, %v", len(left), err)
	}
}

// What a module leaves in the buffer when it fails is wiped.
func TestFailedCallWipesOutput(t *testing.T) {
	token := softhsm.New(t)
	pub := generateRSA(t, token)
	f := faultp11.New(t, token.Module())
	s := openSession(t, token, f.Module())
	enc := find(t, s, p11.CKO_PRIVATE_KEY, "enc")
	f.Inject("C_Decrypt * rv=CKR_ENCRYPTED_DATA_INVALID") // after the token has written the plaintext
	out := bytes.Repeat([]byte{1}, 256)
	if _, err := s.Decrypt(rsaOAEP, enc, nil, encryptTo(t, pub, []byte("plaintext")), out); err == nil {
		t.Fatal("no error")
	}
	if !bytes.Equal(out, make([]byte, 256)) {
		t.Errorf("left in the buffer: %x", out)
	}
}

func wantError(t *testing.T, err, is error, words ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error %v, want one that wraps %v", err, is)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not contain %q", err, w)
		}
	}
}

// The error text of the dynamic loader reaches the operator.
func TestLoaderErrors(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "m.c")
	if err := os.WriteFile(source, []byte("extern void nobody_has_this(void);\nlong C_GetFunctionList(void **f) { nobody_has_this(); return 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(dir, "m.so")
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", module, source).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v: %s", err, out)
	}
	_, err := cryptoki.Acquire(module, "")
	wantError(t, err, signer.ErrUnavailable, module, "undefined symbol: nobody_has_this")

	for name, body := range map[string]string{"CKR_DEVICE_ERROR": "return 0x30;", "no functions": "*f = 0; return 0;"} {
		if err := os.WriteFile(source, []byte("long C_GetFunctionList(void **f) { "+body+" }\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		module = filepath.Join(dir, name+".so")
		if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", module, source).CombinedOutput(); err != nil {
			t.Fatalf("cc: %v: %s", err, out)
		}
		_, err := cryptoki.Acquire(module, "")
		wantError(t, err, signer.ErrUnavailable, name)
	}
}

// BenchmarkFastCalls compares, in one run, the calls of this package with those of the
// binding that they replaced.
func BenchmarkFastCalls(b *testing.B) {
	token := softhsm.New(b)
	token.Generate(b, "sig", provision.ECP256, signer.UseSig)
	token.Generate(b, "enc", provision.RSA2048, signer.UseEnc)
	s := openSession(b, token, token.Module())
	sig, enc := find(b, s, p11.CKO_PRIVATE_KEY, "sig"), find(b, s, p11.CKO_PRIVATE_KEY, "enc")
	digest, out := make([]byte, 32), make([]byte, 256)
	ciphertext := bytes.Repeat([]byte{1}, 256) // does not decrypt: the binding leaks here

	for _, bench := range []struct {
		name string
		f    func()
	}{
		{"sign/binding", func() { _, _ = s.SignByBinding(sig, digest) }},
		{"sign/fast", func() { _, _ = s.Sign(ecdsa, sig, nil, digest, out) }},
		{"bad-ciphertext/binding", func() { _, _ = s.DecryptByBinding(enc, ciphertext) }},
		{"bad-ciphertext/fast", func() { _, _ = s.Decrypt(rsaOAEP, enc, nil, ciphertext, out) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bench.f()
			}
		})
	}
}
