package daemon

import (
	"testing"

	"signetd/daemon/api"
	"signetd/signer"
)

// TestCandidates: a JWE that does not say whose it is costs no more than a few
// tries, and none with a key that does not do its algorithm.
func TestCandidates(t *testing.T) {
	f := serve(t, Limits{})
	c := &call{gen: f.service.generations.enter(), ring: f.setup.Ring, peer: me()}
	defer c.gen.leave()
	name, v, err := c.ring.Version(f.setup.Ring.Keys()[2].Versions[0].KID())
	if err != nil || name != "inbox" {
		t.Fatalf("%q, %v", name, err)
	}
	tests := []struct {
		name string
		r    signer.Recipient
		want int
	}{
		{"a kid", signer.Recipient{KID: v.KID(), WrappedCEK: signer.WrappedCEK{Alg: signer.RSAOAEP256}}, 1},
		{"a kid and another alg", signer.Recipient{KID: v.KID(), WrappedCEK: signer.WrappedCEK{Alg: signer.RSAOAEP}}, 1},
		{"no kid", signer.Recipient{WrappedCEK: signer.WrappedCEK{Alg: signer.RSAOAEP256}}, 1},
		{"no kid and another alg", signer.Recipient{WrappedCEK: signer.WrappedCEK{Alg: signer.RSAOAEP}}, 0},
		{"an unknown kid", signer.Recipient{KID: "x", WrappedCEK: signer.WrappedCEK{Alg: signer.RSAOAEP256}}, 0},
	}
	for _, tt := range tests {
		sealed := &signer.SealedToken{Recipients: []*signer.Recipient{&tt.r}}
		for only, want := range map[string]int{"": tt.want, "inbox": tt.want, "oidc": 0} {
			if got := with(c, only).candidates(sealed, api.OpDecrypt); len(got) != want {
				t.Errorf("%s, key %q: %d candidates, want %d", tt.name, only, len(got), want)
			}
		}
		if got := c.candidates(sealed, api.OpOpenJWT); len(got) != 0 {
			t.Errorf("%s: %d candidates without a grant, want none", tt.name, len(got))
		}
	}
	many := &signer.SealedToken{}
	for range 100 {
		many.Recipients = append(many.Recipients, &tests[2].r)
	}
	if got := c.candidates(many, api.OpDecrypt); len(got) != maxOpens {
		t.Errorf("100 recipients without a kid: %d candidates, want %d", len(got), maxOpens)
	}
	again := &signer.SealedToken{Recipients: []*signer.Recipient{&tests[0].r, &tests[0].r, &tests[0].r}}
	if got := c.candidates(again, api.OpDecrypt); len(got) != 1 {
		t.Errorf("one recipient three times: %d candidates, want 1", len(got))
	}
}

// with returns c with a grant on the named key.
func with(c *call, key string) *call {
	granted := *c
	granted.key = key
	return &granted
}
