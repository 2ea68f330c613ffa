//go:build !nogcp

package gcpkms_test

import (
	"errors"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/signer"
)

// TestOpenKeyRefuses opens keys that cannot be used, or not now.
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
			// A state that can change at Google must not keep the daemon from starting; a
			// mistake in the config must.
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

// TestPermissions opens keys with credentials that have few permissions.
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
