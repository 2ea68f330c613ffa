package policy

import (
	"fmt"
	"slices"
	"testing"

	"signetd/daemon/api"
	"signetd/signer"
)

// BenchmarkGrants asks whether a peer may use the last of 20 keys, each with a grant of
// its own: by the index, and by looking at one grant after the other.
func BenchmarkGrants(b *testing.B) {
	var keys []Key
	var grants []Grant
	uid := uint32(1)
	for i := range 20 {
		name := fmt.Sprint("key", i)
		keys = append(keys, Key{Name: name, Use: signer.UseSig, JWT: &JWT{Issuer: "https://id.example", Audiences: []string{"web"}, MaxTTL: 1e9}})
		grants = append(grants, Grant{Peer: Match{UID: &uid}, Ops: []api.Op{api.OpVerify, api.OpSignJWT}, Keys: []string{name}})
	}
	p, err := New(keys, grants)
	if err != nil {
		b.Fatal(err)
	}

	scan := func(peer Peer, op api.Op, key string) bool {
		for i := range grants {
			if g := &grants[i]; slices.Contains(g.Ops, op) && slices.Contains(g.Keys, key) && g.Peer.matches(peer) {
				return true
			}
		}
		return false
	}
	for _, v := range []struct {
		name   string
		allows func(Peer, api.Op, string) bool
	}{{"index", p.Allows}, {"scan", scan}} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !v.allows(Peer{UID: 1}, api.OpSignJWT, "key19") {
					b.Fatal("the grant was not found")
				}
			}
		})
	}
}
