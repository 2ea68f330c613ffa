//go:build linux && cgo

package main

import (
	"regexp"
	"strings"
	"testing"
)

// reached is a report in which every floor is reached exactly.
func reached() report {
	r := report{LoadBefore: "0.10", LoadAfter: "1.90"}
	for _, f := range floors {
		r.Duels = append(r.Duels, duel{Alg: f.alg, Case: f.name, Clients: f.clients, Ratio: spread{f.ratio, 0.95 * f.ratio, 1.05 * f.ratio}})
	}
	return r
}

func TestCheck(t *testing.T) {
	all := options{only: regexp.MustCompile("."), check: true}
	first := floors[0]
	tests := []struct {
		name   string
		change func(*report)
		words  string // of the error
	}{
		{"all reached", func(*report) {}, ""},
		{"below, but within the noise", func(r *report) { r.Duels[0].Ratio = spread{0.95 * first.ratio, 0.9 * first.ratio, first.ratio} }, ""},
		{"below by more", func(r *report) { r.Duels[0].Ratio = spread{0.8 * first.ratio, 0.75 * first.ratio, 0.85 * first.ratio} }, "below its floor"},
		{"noisy", func(r *report) { r.Duels[0].Ratio = spread{first.ratio, 0.5 * first.ratio, 1.5 * first.ratio} }, "NOISY"},
		{"noisy above", func(r *report) { r.Duels[0].Ratio = spread{3 * first.ratio, first.ratio, 5 * first.ratio} }, "NOISY"},
		{"failures", func(r *report) { r.Duels[0].Failures, r.Duels[0].Failure = 1, "overloaded" }, "overloaded"},
		{"broken", func(r *report) { r.Duels[0].Broken = "no token" }, "no token"},
		{"not measured", func(r *report) { r.Duels = r.Duels[1:] }, "not measured"},
	}
	for _, tt := range tests {
		r := reached()
		tt.change(&r)
		var out strings.Builder
		err := r.check(&out, all)
		switch {
		case tt.words == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.words != "" && (err == nil || !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), first.name)):
			t.Errorf("%s: %v, want an error that says %q and names the case", tt.name, err, tt.words)
		}
		if !strings.Contains(out.String(), "load average 0.10 before, 1.90 after") {
			t.Errorf("%s: the load is not told: %s", tt.name, &out)
		}
	}
}

// A floor that was left out on purpose is not missed, but to leave out all is a mistake.
func TestCheckOfSome(t *testing.T) {
	r := reached()
	r.Duels = r.Duels[:1]
	if err := r.check(&strings.Builder{}, options{only: regexp.MustCompile("^ES256 " + regexp.QuoteMeta(floors[0].name) + "$"), check: true}); err != nil {
		t.Error(err)
	}
	if err := r.check(&strings.Builder{}, options{only: regexp.MustCompile("^no such case$"), check: true}); err == nil {
		t.Error("a check of nothing passed")
	}
}

// A check measures the cases with floors, each of them, and no others.
func TestCheckMeasuresFloors(t *testing.T) {
	o := options{only: regexp.MustCompile("."), check: true}
	measured := map[floor]bool{}
	for _, c := range cases() {
		for _, n := range c.clients {
			f, ok := floorOf(c.alg, c.name, n)
			if o.wants(c, n) != ok {
				t.Errorf("%s, %d clients: wanted %t, has a floor %t", c, n, !ok, ok)
			}
			measured[f] = true
		}
	}
	for _, f := range floors {
		if !measured[f] {
			t.Errorf("no case has the floor %+v", f)
		}
	}
}
