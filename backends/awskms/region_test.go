//go:build !noaws

package awskms_test

import (
	"crypto/sha256"
	"errors"
	"sync/atomic"
	"testing"

	"signetd/backends/awskms"
	"signetd/backends/awskms/awskmstest"
	"signetd/signer"
)

// TestMultiRegion makes one version of a multi-Region key and its replica, which have the
// same public half. Where one region fails the other signs.
func TestMultiRegion(t *testing.T) {
	home, away := awskmstest.New(t, awskmstest.Config{}), awskmstest.New(t, awskmstest.Config{Region: "us-east-1"})
	primary := home.CreateMultiRegionKey("ECC_NIST_P256", "SIGN_VERIFY")
	stranger := away.CreateMultiRegionKey("ECC_NIST_P256", "SIGN_VERIFY")
	once := func(c *awskms.Config) { c.Attempts = 1 }
	backends := map[*awskmstest.Server]*awskms.Backend{home: open(t, home, once), away: open(t, away, once)}

	key := func(s *awskmstest.Server, arn string) signer.Key {
		t.Helper()
		k, err := backends[s].OpenKey(t.Context(), arn)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}

	first := key(home, primary)
	var failovers atomic.Int64
	failover := func() { failovers.Add(1) }
	v, err := signer.NewVersion(first, signer.VersionConfig{
		Algs: []signer.Alg{signer.ES256}, Places: []signer.PlaceConfig{{Backend: "eu", Failover: failover}, {Backend: "us", Failover: failover}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Join(t.Context(), 1, key(away, stranger)); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Join() with another key = %v, want ErrInvalid", err)
	}
	if err := v.Join(t.Context(), 1, key(away, home.Replicate(primary, away))); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	sign := func() {
		t.Helper()
		if _, err := v.Sign(t.Context(), signer.ES256, digest[:]); err != nil { // it verifies the signature
			t.Fatal(err)
		}
	}
	for range 8 {
		sign()
	}
	if a, b := home.Calls()["Sign"], away.Calls()["Sign"]; a < 4 || b < 4 {
		t.Errorf("%d and %d calls of Sign, want both regions to sign", a, b)
	}
	home.Inject("Sign", 1, 1000, awskmstest.Status(503))
	for range 8 {
		sign()
	}
	if failovers.Load() == 0 {
		t.Error("no request went from one region to the other")
	}
}
