//go:build linux && cgo

package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"signetd/softhsm/bench/report"
)

func TestCases(t *testing.T) {
	labels := map[string]keySpec{}
	for _, k := range tenKeys() {
		labels[k.Label] = k
	}
	seen := map[string]bool{}
	for _, c := range cases() {
		if seen[c.String()] {
			t.Errorf("%s appears twice", c)
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
			t.Errorf("%s lacks a part", c)
		}
	}
	for _, alg := range append(slices.Clone(report.SignAlgs), report.OAEP) {
		if !slices.ContainsFunc(cases(), func(c benchCase) bool { return c.alg == alg && c.name == report.Tool }) {
			t.Errorf("%s is not measured with one process an operation", alg)
		}
	}
}

func TestKeys(t *testing.T) {
	if n := len(tenKeys()); n != report.SmallKeys {
		t.Errorf("ten keys are %d", n)
	}
	if n := len(manyKeys()); n != report.LargeKeys {
		t.Errorf("many keys are %d, want %d", n, report.LargeKeys)
	}
	if n := 2 * (len(tenKeys()) + len(largeLabels())); n != largeObjects {
		t.Errorf("the large token has %d objects, want %d", n, largeObjects)
	}
	seen := map[string]bool{}
	for _, k := range manyKeys() {
		if seen[k.Label] {
			t.Errorf("key %s appears twice", k.Label)
		}
		seen[k.Label] = true
	}
}

// A check measures the cases with floors, each of them, and no others.
func TestCheckMeasuresFloors(t *testing.T) {
	o := options{only: regexp.MustCompile("."), check: true}
	measured := map[report.Floor]bool{}
	for _, c := range cases() {
		for _, n := range c.clients {
			f, ok := report.FloorOf(c.alg, c.name, n)
			if o.wants(c.alg, c.name, n) != ok {
				t.Errorf("%s, %d clients: wanted %t, has a floor %t", c, n, !ok, ok)
			}
			measured[f] = true
		}
	}
	for _, f := range report.Floors {
		if !measured[f] {
			t.Errorf("no case has the floor %+v", f)
		}
	}
}

// What the report shows is measured, and -shown leaves out the rest.
func TestShown(t *testing.T) {
	o := options{only: regexp.MustCompile("."), shown: true}
	duels, wanted := 0, 0
	for _, c := range cases() {
		for _, n := range c.clients {
			duels++
			if o.wants(c.alg, c.name, n) {
				wanted++
			}
		}
	}
	if wanted < 100 || wanted > duels/2 {
		t.Errorf("-shown measures %d of %d duels", wanted, duels)
	}
	for _, f := range report.Floors {
		if !report.Shown(f.Alg, f.Case) {
			t.Errorf("the report does not show %s %s, which has a floor", f.Alg, f.Case)
		}
	}
}

// Floors are chosen as cases are.
func TestWants(t *testing.T) {
	first := report.Floors[0]
	for pattern, want := range map[string]bool{"^ES256 " + regexp.QuoteMeta(first.Case) + "$": true, "^no such case$": false} {
		o := options{only: regexp.MustCompile(pattern), check: true}
		if got := o.wants(first.Alg, first.Case, first.Clients); got != want {
			t.Errorf("-run %s: wanted %t, want %t", pattern, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	var b bytes.Buffer
	if err := configTemplate.Execute(&b, map[string]any{
		"Socket": "/s", "Metrics": "/m", "Audit": "/a", "Sync": "always", "UID": 7, "Module": "/mod", "Token": "bench", "PINFile": "/pin",
		"Keys": []keySpec{{Label: "a", Alg: "ES256"}, {Label: "b", Alg: "ES256", Unverified: true}, {Label: inbox, Alg: report.OAEP, Enc: true}},
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"verify: true", "verify: false", "use: enc", "keys: [a, b, ]", "sync: always", "listen: /m"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the config has no %q:\n%s", want, &b)
		}
	}
}
