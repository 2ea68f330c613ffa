package policy_test

import (
	"testing"
	"time"

	"signetd/daemon/policy"
)

// BenchmarkApply is the work of a policy with every kind of rule on an access
// token of usual size.
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

// BenchmarkApplyPlain is that of a policy of issuer, audience and lifetime.
func BenchmarkApplyPlain(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := compiled.Apply(policy.ClaimsRequest{Claims: []byte(`{"sub":"alice","aud":"api"}`)}, now); err != nil {
			b.Fatal(err)
		}
	}
}
