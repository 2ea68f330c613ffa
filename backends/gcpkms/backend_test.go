//go:build !nogcp

package gcpkms_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/gcpkms"
	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/signer"
)

func encrypt(t *testing.T, key signer.Key, alg signer.Alg, plaintext string) []byte {
	t.Helper()
	ciphertext, err := rsa.EncryptOAEP(alg.Hash().New(), rand.Reader, key.Public().(*rsa.PublicKey), []byte(plaintext), nil)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

// TestOpenKeyRefuses says at start what cannot work later.
func TestOpenKeyRefuses(t *testing.T) {
	t.Parallel()
	kms := gcpkmstest.New(t)
	ec := create(kms, "ec", "EC_SIGN_P256_SHA256")
	hmac := create(kms, "hmac", "HMAC_SHA256")
	disabled := create(kms, "disabled", "HMAC_SHA256")
	kms.SetState(disabled, kmspb.CryptoKeyVersion_DISABLED)
	disabledEC := create(kms, "disabled-ec", "EC_SIGN_P256_SHA256")
	kms.SetState(disabledEC, kmspb.CryptoKeyVersion_DISABLED)
	scheduled := create(kms, "scheduled", "EC_SIGN_P256_SHA256")
	kms.SetState(scheduled, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED)
	pending := create(kms, "pending", "EC_SIGN_P256_SHA256")
	kms.SetState(pending, kmspb.CryptoKeyVersion_PENDING_GENERATION)
	b := mustOpen(t, plain(kms))
	tests := []struct {
		name, ref string
		want      error
		text      string
	}{
		{"no name", "oidc", signer.ErrInvalid, "cryptoKeyVersions/N"},
		{"empty", "", signer.ErrInvalid, ""},
		{"another scheme", "awskms:///" + ec, signer.ErrInvalid, ""},
		{"version 0", strings.TrimSuffix(ec, "1") + "0", signer.ErrInvalid, ""},
		{"a line break", ec + "\n", signer.ErrInvalid, ""},
		{"a CryptoKey without an enabled version", gcpkmstest.KeyRing + "/cryptoKeys/disabled", signer.ErrUnavailable, "no enabled version (of 1)"},
		{"no such version", ec + "2", signer.ErrNotFound, "no such key or version"},
		{"no such key", gcpkmstest.KeyRing + "/cryptoKeys/nobody/cryptoKeyVersions/1", signer.ErrNotFound, ""},
		{"disabled", disabled, signer.ErrUnavailable, "the version is DISABLED"},
		{"disabled, with a public half", disabledEC, signer.ErrUnavailable, "the version is DISABLED"},
		{"scheduled for destruction", scheduled, signer.ErrUnavailable, "the version is DESTROY_SCHEDULED"},
		{"not generated yet", pending, signer.ErrUnavailable, "the version is PENDING_GENERATION"},
		{"HMAC with SHA-1", create(kms, "sha1", "HMAC_SHA1"), signer.ErrUnsupported, "HMAC_SHA1: JOSE has no HMAC with this hash"},
		{"raw AES", create(kms, "aes", "AES_256_GCM"), signer.ErrUnsupported, "raw AES"},
		{"post-quantum", create(kms, "pq", "PQ_SIGN_SLH_DSA_SHA2_128S"), signer.ErrUnsupported, "post-quantum"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := b.OpenKey(t.Context(), tt.ref)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("OpenKey(%q) = %v, want %v with %q", tt.ref, err, tt.want, tt.text)
			}
			// A state that somebody can change in Google's console must not keep the daemon
			// from starting; a mistake in the config must.
			if passes := errors.Is(tt.want, signer.ErrUnavailable); signer.Passing(err) != passes {
				t.Errorf("Passing(%v) = %t, want %t", err, !passes, passes)
			}
		})
	}
	key, err := b.OpenKey(t.Context(), hmac)
	if err != nil {
		t.Fatal(err)
	}
	_, err = signer.NewVersion(key, signer.VersionConfig{KID: "k", Algs: []signer.Alg{signer.HS512}})
	if !errors.Is(err, signer.ErrUnsupported) {
		t.Errorf("NewVersion(HS512) = %v, want ErrUnsupported", err)
	}
	rs, err := b.OpenKey(t.Context(), create(kms, "rsa", "RSA_SIGN_PKCS1_2048_SHA256"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = signer.NewVersion(rs, signer.VersionConfig{Algs: []signer.Alg{signer.PS256}})
	if !errors.Is(err, signer.ErrUnsupported) || !strings.Contains(err.Error(), "PS256: Google Cloud KMS made this version for RSA_SIGN_PKCS1_2048_SHA256") {
		t.Errorf("NewVersion(PS256) = %v, want ErrUnsupported and the reason", err)
	}
}

// TestPermissions opens keys with credentials that lack something.
func TestPermissions(t *testing.T) {
	t.Parallel()
	const view, sign, get, use = "cloudkms.cryptoKeyVersions.viewPublicKey", "cloudkms.cryptoKeyVersions.useToSign", "cloudkms.cryptoKeyVersions.get", "cloudkms.cryptoKeyVersions.useToDecrypt"
	kms := gcpkmstest.New(t)
	ec, mac := create(kms, "ec", "EC_SIGN_P256_SHA256"), create(kms, "mac", "HMAC_SHA256")
	rs := create(kms, "rsa", "RSA_DECRYPT_OAEP_2048_SHA256")
	b := mustOpen(t, plain(kms))
	tests := []struct {
		name, ref string
		has       []string
		text      string // empty: the key opens
	}{
		{"a signer", ec, []string{view, sign}, ""},
		{"a signer that sees no public keys", ec, []string{sign, get}, "viewPublicKey"},
		{"a viewer", ec, []string{view, get}, "lack cloudkms.cryptoKeyVersions.useToSign on the CryptoKey: grant roles/cloudkms.signer"},
		{"nobody", ec, []string{gcpkmstest.NoPermission}, "PermissionDenied"},
		{"a MAC key", mac, []string{get, sign}, ""},
		{"a MAC key that cannot be looked at", mac, []string{sign}, "cloudkms.cryptoKeyVersions.get is needed"},
		{"a MAC key's viewer", mac, []string{get}, "roles/cloudkms.signer"},
		{"a decrypter", rs, []string{view, use}, ""},
		{"a decrypter's viewer", rs, []string{view, sign}, "roles/cloudkms.cryptoKeyDecrypter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kms.SetPermissions(tt.has...)
			_, err := b.OpenKey(t.Context(), tt.ref)
			if tt.text == "" && err != nil || tt.text != "" && (!errors.Is(err, signer.ErrUnavailable) || !strings.Contains(err.Error(), tt.text)) {
				t.Errorf("OpenKey() = %v, want ErrUnavailable with %q, or nil if that is empty", err, tt.text)
			}
			if passes := tt.text != ""; signer.Passing(err) != passes {
				t.Errorf("Passing(%v) = %t: permissions change without this host", err, !passes)
			}
		})
	}
	kms.SetPermissions(gcpkmstest.NoPermission)
	if err := b.Ping(t.Context()); err != nil {
		t.Errorf("Ping() without permissions = %v: the service answers", err)
	}
}

// TestExpand lists the versions of a CryptoKey.
func TestExpand(t *testing.T) {
	t.Parallel()
	kms := gcpkmstest.New(t)
	kms.SetPageSize(5)
	b := mustOpen(t, plain(kms))
	key := kms.CreateKey("many", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
	if _, err := b.Expand(t.Context(), key); !signer.Passing(err) || !strings.Contains(err.Error(), "no enabled version") {
		t.Errorf("Expand() without versions = %v, want ErrUnavailable that may pass", err)
	}
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var want []signer.Expanded
	for i := range 12 {
		v := kms.CreateVersion(key)
		kms.SetCreateTime(v, start.Add(time.Duration(i)*time.Hour))
		switch i {
		case 3:
			kms.SetState(v, kmspb.CryptoKeyVersion_DISABLED)
		case 11:
			kms.SetState(v, kmspb.CryptoKeyVersion_PENDING_GENERATION)
		default:
			want = append(want, signer.Expanded{Ref: v, NotBefore: start.Add(time.Duration(i) * time.Hour)})
		}
	}
	slices.Reverse(want)
	got, err := b.Expand(t.Context(), "gcpkms:///"+key)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Expand() = %v, %v; want %v", got, err, want)
	}
	if n := kms.Calls("ListCryptoKeyVersions"); n != 1+3 {
		t.Errorf("%d calls of ListCryptoKeyVersions, want 1 and then 3 pages", n)
	}
	newest, err := b.OpenKey(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if text := newest.(signer.Describer).Describe(); !strings.HasPrefix(text, want[0].Ref+", EC_SIGN_P256_SHA256, protection level SOFTWARE; the credentials have cloudkms.") {
		t.Errorf("Describe() of the CryptoKey's key = %q, want %s", text, want[0].Ref)
	}
	for _, ref := range []string{want[0].Ref, create(kms, "one", "HMAC_SHA256")} {
		if got, err := b.Expand(t.Context(), ref); err != nil || len(got) != 1 || got[0] != (signer.Expanded{Ref: ref}) {
			t.Errorf("Expand(%q) = %v, %v; want itself", ref, got, err)
		}
	}
	create(kms, "kek", "GOOGLE_SYMMETRIC_ENCRYPTION")
	if got, err := b.Expand(t.Context(), gcpkmstest.KeyRing+"/cryptoKeys/kek"); err != nil || len(got) != 1 || strings.Contains(got[0].Ref, "Versions") {
		t.Errorf("Expand(a key that encrypts) = %v, %v; want itself", got, err)
	}
	if _, err := b.Expand(t.Context(), gcpkmstest.KeyRing+"/cryptoKeys/nobody"); !errors.Is(err, signer.ErrNotFound) {
		t.Errorf("Expand(no key) = %v, want ErrNotFound", err)
	}
}

// TestBlob opens what a rotated key encrypted, and nothing that was tampered with.
func TestBlob(t *testing.T) {
	t.Parallel()
	kms := gcpkmstest.New(t)
	name := kms.CreateKey("kek", kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION)
	kms.CreateVersion(name)
	opened, err := mustOpen(t, plain(kms)).OpenKey(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	key := opened.(signer.BlobCipher)
	if want := (signer.Secret{Type: signer.SecretBlob, Size: 32}); key.Public() != want {
		t.Errorf("Public() = %v, want %v", key.Public(), want)
	}
	blob, err := key.EncryptBlob(t.Context(), []byte("secret"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	kms.CreateVersion(name) // rotated
	if got, err := key.DecryptBlob(t.Context(), blob, []byte("aad")); err != nil || string(got) != "secret" {
		t.Errorf("DecryptBlob() after a rotation = %q, %v", got, err)
	}
	if _, err := key.EncryptBlob(t.Context(), []byte("secret"), nil); err != nil {
		t.Errorf("EncryptBlob() after a rotation = %v", err)
	}
	bad := slices.Clone(blob)
	bad[len(bad)-1] ^= 1
	for what, in := range map[string][2][]byte{
		"tampered": {bad, []byte("aad")}, "other aad": {blob, []byte("add")}, "empty": {nil, nil}, "short": {blob[:3], nil},
		"of no version": {append([]byte{0, 0, 0, 99}, blob[4:]...), []byte("aad")}, "too long": {make([]byte, 2<<20), nil},
	} {
		if _, err := key.DecryptBlob(t.Context(), in[0], in[1]); err != signer.ErrDecrypt { //nolint:errorlint // it must be bare
			t.Errorf("DecryptBlob(%s) = %v, want ErrDecrypt and nothing else", what, err)
		}
	}
	if _, err := key.EncryptBlob(t.Context(), make([]byte, 64<<10+1), nil); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("EncryptBlob(64 KiB + 1) = %v, want ErrInvalid", err)
	}
}

// TestRate keeps below the service's quota, and shows what the service refuses.
func TestRate(t *testing.T) {
	for _, rate := range []int{0, 300} {
		kms := gcpkmstest.New(t)
		c := plain(kms)
		c.Rate = rate
		b := mustOpen(t, c)
		key, err := b.OpenKey(t.Context(), create(kms, "k", "EC_SIGN_P256_SHA256"))
		if err != nil {
			t.Fatal(err)
		}
		kms.SetQuota(300)
		var signed, refused, slow atomic.Int64
		var running sync.WaitGroup
		for range 2000 { // in two seconds
			running.Go(func() {
				start := time.Now()
				_, err := key.(signer.Signer).SignContext(t.Context(), make([]byte, 32), signer.ES256.SignerOpts())
				switch {
				case err == nil:
					signed.Add(1)
				case errors.Is(err, signer.ErrOverloaded) && signer.RetryAfter(err) > 0:
					refused.Add(1)
					if time.Since(start) > 500*time.Millisecond {
						slow.Add(1)
					}
				default:
					t.Errorf("SignContext() = %v, want a signature or ErrOverloaded", err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		running.Wait()
		s := b.Stats()
		if signed.Load() < 300 || signed.Load()+refused.Load() != 2000 || slow.Load() > 0 {
			t.Errorf("rate %d: %d signed, %d refused, %d of them late", rate, signed.Load(), refused.Load(), slow.Load())
		}
		if rate == 0 && s.ThrottledTotal == 0 || rate != 0 && (s.LimitedTotal == 0 || s.Used["crypto"] == 0) {
			t.Errorf("rate %d: Stats() = %+v", rate, s)
		}
		if err := b.Ping(t.Context()); err != nil {
			t.Errorf("rate %d: Ping() of a service that throttles = %v", rate, err)
		}
		t.Logf("rate %d: %d signed, %d refused: %+v", rate, signed.Load(), refused.Load(), s)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad := map[string]gcpkms.Config{
		"endpoint without a port":   {Endpoint: "kms.example"},
		"a URL":                     {Endpoint: "https://kms.example/"},
		"plaintext elsewhere":       {Endpoint: "kms.example:443", Plaintext: true},
		"plaintext to a name":       {Endpoint: "localhost:443", Plaintext: true},
		"plaintext without":         {Plaintext: true},
		"plaintext and credentials": {Endpoint: "127.0.0.1:1", Plaintext: true, CredentialsFile: "/x"},
		"timeout":                   {AttemptTimeout: "5"},
		"short timeout":             {AttemptTimeout: "1ms"},
		"attempts":                  {Attempts: 11},
		"rate":                      {Rate: -1},
		"credentials missing":       {CredentialsFile: filepath.Join(dir, "none")},
		"credentials for all":       {CredentialsFile: write("open", `{"type":"service_account"}`, 0o644)},
		"no JSON":                   {CredentialsFile: write("text", `secret-value`, 0o600)},
		"unknown type":              {CredentialsFile: write("other", `{"type":"secret-value"}`, 0o600)},
	}
	for name, c := range bad {
		b, err := gcpkms.Open(t.Context(), c)
		if !errors.Is(err, signer.ErrInvalid) || strings.Contains(err.Error(), "secret-value") {
			t.Errorf("Open(%s) = %v, want ErrInvalid without what the file holds", name, err)
		}
		if b != nil && err != nil {
			t.Errorf("Open(%s) returned a backend and an error", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := gcpkms.Open(ctx, gcpkms.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open(cancelled) = %v, want context.Canceled", err)
	}
}
