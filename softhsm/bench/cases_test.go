//go:build linux && cgo

package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestCases(t *testing.T) {
	labels := map[string]keySpec{}
	for _, k := range tenKeys() {
		labels[k.Label] = k
	}
	seen := map[string]bool{}
	for _, c := range cases() {
		if seen[c.String()] {
			t.Errorf("%s stands twice", c)
		}
		seen[c.String()] = true
		k, ok := labels[c.key]
		if !ok || k.Alg != c.alg {
			t.Errorf("%s uses key %q of alg %q", c, c.key, k.Alg)
		}
		// The name says whether the key's signatures are verified.
		if off := strings.Contains(c.name, "verify off"); ok && off != k.Unverified && (off || strings.HasPrefix(c.name, "signetd")) {
			t.Errorf("%s uses key %q", c, c.key)
		}
		if c.start == nil || len(c.clients) == 0 || (c.reference != nil) != (c.against != "") {
			t.Errorf("%s is not whole", c)
		}
	}
	for _, alg := range append(slices.Clone(signAlgs), oaep) {
		if !slices.ContainsFunc(cases(), func(c benchCase) bool { return c.alg == alg && c.name == nameProcess }) || toolArgs[alg] == nil {
			t.Errorf("%s is not measured with one process an operation", alg)
		}
	}
}

func TestKeys(t *testing.T) {
	if n := len(tenKeys()); n != 10 {
		t.Errorf("ten keys are %d", n)
	}
	if n := len(manyKeys()); n != largeKeys {
		t.Errorf("many keys are %d, want %d", n, largeKeys)
	}
	if n := 2 * (len(tenKeys()) + len(largeLabels())); n != largeObjects {
		t.Errorf("the large token has %d objects, want %d", n, largeObjects)
	}
	seen := map[string]bool{}
	for _, k := range manyKeys() {
		if seen[k.Label] {
			t.Errorf("key %s stands twice", k.Label)
		}
		seen[k.Label] = true
	}
}

func TestConfig(t *testing.T) {
	var b bytes.Buffer
	if err := configTemplate.Execute(&b, map[string]any{
		"Socket": "/s", "Metrics": "/m", "Audit": "/a", "Sync": "always", "UID": 7, "Module": "/mod", "Token": "bench", "PINFile": "/pin",
		"Keys": []keySpec{{Label: "a", Alg: "ES256"}, {Label: "b", Alg: "ES256", Unverified: true}, {Label: inbox, Alg: oaep, Enc: true}},
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"verify: true", "verify: false", "use: enc", "keys: [a, b, ]", "sync: always", "listen: /m"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the config has no %q:\n%s", want, &b)
		}
	}
}
