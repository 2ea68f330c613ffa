package policy_test

import (
	"fmt"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// BenchmarkCheck asks for the last of 1 and of 200 keys, each with a grant of its own.
func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{1, 200} {
		var keys []policy.Key
		var grants []policy.Grant
		for i := range n {
			name := fmt.Sprint("key", i)
			keys = append(keys, policy.Key{Name: name, Use: signer.UseSig, JWT: rules})
			grants = append(grants, policy.Grant{Peer: policy.Match{UID: id(1)}, Ops: []api.Op{api.OpVerify, api.OpSignJWT}, Keys: []string{name}})
		}
		p, err := policy.New(keys, grants)
		if err != nil {
			b.Fatal(err)
		}

		last := keys[n-1].Name
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Check(policy.Peer{UID: 1}, api.OpSignJWT, last); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkApply measures a policy with every kind of rule on an access token of the
// usual size.
func BenchmarkApply(b *testing.B) {
	r := must((&policy.JWT{
		Issuer: "https://id.example", Audiences: []string{"web", "https://api.example.com/*"}, Subjects: []string{"user:*"},
		MaxTTL: 15 * time.Minute, TTL: 5 * time.Minute, Typ: "at+jwt",
		Required: []string{"sub", "client_id"}, Forbidden: []string{"act", "email"},
		Values: map[string]policy.Value{
			"scope": {Words: []string{"orders:read", "orders:write"}}, "roles": {Type: "array", OneOf: []any{"customer", "beta"}},
			"level": {Type: "integer", Min: number(1), Max: number(5)},
		},
	}).Compile())
	claims := []byte(`{"sub":"user:4711","aud":"https://api.example.com/orders","client_id":"web-shop","scope":"orders:read orders:write",` +
		`"roles":["customer","beta"],"level":3,"org":{"id":"acme","name":"Acme GmbH"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Apply(policy.ClaimsRequest{Claims: claims}, now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApplyPlain measures a policy that has only issuer, audiences and lifetime.
func BenchmarkApplyPlain(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := compiled.Apply(policy.ClaimsRequest{Claims: []byte(`{"sub":"alice","aud":"api"}`)}, now); err != nil {
			b.Fatal(err)
		}
	}
}
