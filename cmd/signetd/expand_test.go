//go:build !nogcp

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/daemon"
	"signetd/daemon/keyring"
	"signetd/signer"
)

// cryptoKey returns a config with one key and the given version of it, in a fake of Google
// Cloud KMS.
func cryptoKey(t *testing.T, kms *gcpkmstest.Server, version string) *document {
	t.Helper()
	text := strings.NewReplacer(
		"  - name: memory\n    software: {}", fmt.Sprintf("  - name: gcp\n    gcpkms: {endpoint: %q, plaintext: true, attempt_timeout: 200ms}", kms.Endpoint()),
		`{backend: memory, ref: "generate:ec-p256"}`, version,
	).Replace(good)
	d, err := parseConfig("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func closeSetup(t *testing.T, setup daemon.Setup) {
	t.Helper()
	if err := setup.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

func TestExpand(t *testing.T) {
	kms := gcpkmstest.New(t)
	key := kms.CreateKey("oidc", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
	now := time.Now()
	var refs []string
	for i, age := range []time.Duration{48 * time.Hour, 24 * time.Hour, time.Hour} {
		v := kms.CreateVersion(key)
		kms.SetCreateTime(v, now.Add(-age))
		if i == 1 {
			kms.SetState(v, kmspb.CryptoKeyVersion_DISABLED)
			continue
		}
		refs = append(refs, v)
	}
	tests := []struct {
		name, version string
		active        string        // the ref of the active version, or empty
		offset        time.Duration // of the newest version's not_before, from the time when it was made
	}{
		{"as they were made", `{backend: gcp, ref: "` + key + `"}`, refs[1], 0},
		{"from a past day", `{backend: gcp, ref: "gcpkms:///` + key + `", not_before: 2026-01-01T00:00:00Z}`, refs[1], 0},
		{"from a future day", fmt.Sprintf(`{backend: gcp, ref: %q, not_before: %q}`, key, now.Add(time.Hour).Format(time.RFC3339Nano)), "", 2 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			setup, err := cryptoKey(t, kms, tt.version).openAll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { closeSetup(t, setup) })

			k, err := setup.Ring.Key("oidc")
			if err != nil || len(k.Versions) != 2 {
				t.Fatalf("Key() = %d versions, %v; want 2", len(k.Versions), err)
			}
			for i, v := range k.Versions { // the newest first
				if text := v.Describe(); !strings.HasPrefix(text, refs[len(refs)-1-i]+",") {
					t.Errorf("version %d is %q, want %s", i, text, refs[len(refs)-1-i])
				}
			}

			if got, want := k.Versions[0].NotBefore(), now.Add(tt.offset-time.Hour); got.Sub(want).Abs() > time.Second {
				t.Errorf("NotBefore() of the newest = %v, want %v", got, want)
			}

			active, err := k.Active(now)
			if tt.active == "" {
				if !errors.Is(err, signer.ErrNotFound) {
					t.Errorf("Active() = %v, %v; want none", active, err)
				}
				return
			}
			if err != nil || !strings.HasPrefix(active.Describe(), tt.active+",") {
				t.Errorf("Active() = %v, %v; want %s", active, err, tt.active)
			}
		})
	}

	_, err := cryptoKey(t, kms, `{backend: gcp, ref: "`+key+`", kid: x}`).openAll(t.Context())
	if !errors.Is(err, signer.ErrInvalid) || !strings.Contains(err.Error(), "test.yaml:17:") || !strings.Contains(err.Error(), "cannot have one kid") {
		t.Errorf("openAll() with one kid for two versions = %v, want ErrInvalid at its place", err)
	}
}

// TestExpandAway opens the config while Google is away. The entry then stands for the
// versions that it had before, or for one missing version if they are not known.
func TestExpandAway(t *testing.T) {
	kms := gcpkmstest.New(t)
	key := kms.CreateKey("oidc", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
	kms.CreateVersion(key)
	kms.CreateVersion(key)
	d := cryptoKey(t, kms, `{backend: gcp, ref: "`+key+`"}`)
	keys := keyring.New(daemon.NewMetrics("test"), slog.New(slog.DiscardHandler))
	open := func() (missing, seen int) {
		t.Helper()
		list, err := d.toOpen()
		if err != nil {
			t.Fatal(err)
		}
		setup, err := keys.Open(t.Context(), d.File, list, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closeSetup(t, setup)

		k, err := setup.Ring.Key("oidc")
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range k.Versions {
			if v.Missing() {
				missing++
			}
			if v.Seen() {
				seen++
			}
		}
		return missing, seen
	}

	away := gcpkmstest.Fault{Kind: gcpkmstest.Unavailable, Times: -1}
	for _, step := range []struct {
		name          string
		away          bool
		missing, seen int
	}{{"away at start", true, 1, 0}, {"there", false, 0, 2}, {"away at a reload", true, 2, 2}} {
		kms.Heal()
		if step.away {
			kms.Inject(away)
		}
		if missing, seen := open(); missing != step.missing || seen != step.seen {
			t.Errorf("%s: %d versions missing and %d known, want %d and %d", step.name, missing, seen, step.missing, step.seen)
		}
	}
	if _, err := d.openAll(t.Context()); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("openAll() = %v, want ErrUnavailable", err)
	}
}
