package report

import (
	"strings"
	"testing"
)

// reached is a report in which every floor is reached exactly.
func reached() Report {
	r := Report{LoadBefore: "0.10", LoadAfter: "1.90"}
	for _, f := range Floors {
		r.Duels = append(r.Duels, Duel{Alg: f.Alg, Case: f.Case, Clients: f.Clients, Ratio: Spread{f.Ratio, 0.95 * f.Ratio, 1.05 * f.Ratio}})
	}
	return r
}

func TestCheck(t *testing.T) {
	all := func(Floor) bool { return true }
	first := Floors[0]
	tests := []struct {
		name   string
		change func(*Report)
		words  string // of the error
	}{
		{"all reached", func(*Report) {}, ""},
		{"below, but within the noise", func(r *Report) { r.Duels[0].Ratio = Spread{0.95 * first.Ratio, 0.9 * first.Ratio, first.Ratio} }, ""},
		{"below by more", func(r *Report) { r.Duels[0].Ratio = Spread{0.8 * first.Ratio, 0.75 * first.Ratio, 0.85 * first.Ratio} }, "below its floor"},
		{"noisy", func(r *Report) { r.Duels[0].Ratio = Spread{first.Ratio, 0.5 * first.Ratio, 1.5 * first.Ratio} }, "NOISY"},
		{"noisy above", func(r *Report) { r.Duels[0].Ratio = Spread{3 * first.Ratio, first.Ratio, 5 * first.Ratio} }, "NOISY"},
		{"failures", func(r *Report) { r.Duels[0].Failures, r.Duels[0].Failure = 1, "overloaded" }, "overloaded"},
		{"broken", func(r *Report) { r.Duels[0].Broken = "no token" }, "no token"},
		{"not measured", func(r *Report) { r.Duels = r.Duels[1:] }, "not measured"},
	}
	for _, tt := range tests {
		r := reached()
		tt.change(&r)
		var out strings.Builder
		err := r.Check(&out, all)
		switch {
		case tt.words == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.words != "" && (err == nil || !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), first.Case)):
			t.Errorf("%s: %v, want an error that says %q and names the case", tt.name, err, tt.words)
		}
		if !strings.Contains(out.String(), "load average 0.10 before, 1.90 after") {
			t.Errorf("%s: the load average is missing: %s", tt.name, &out)
		}
	}
}

// A floor that was left out on purpose is not missed. To leave out all of them is a mistake.
func TestCheckOfSome(t *testing.T) {
	r := reached()
	r.Duels = r.Duels[:1]
	if err := r.Check(&strings.Builder{}, func(f Floor) bool { return f == Floors[0] }); err != nil {
		t.Error(err)
	}
	if err := r.Check(&strings.Builder{}, func(Floor) bool { return false }); err == nil {
		t.Error("a check of nothing passed")
	}
}
