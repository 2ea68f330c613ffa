//go:build !nogcp

package gcpkms_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/signer"
)

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
