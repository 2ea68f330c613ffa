//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// A floor is a ratio below which a case must not fall.
type floor struct {
	alg, name string
	clients   int
	ratio     float64
}

// floors hold what was reached, so that it is not lost unnoticed: see
// docs/performance.md.
var floors = []floor{
	{"ES256", nameUnverified, 64, 0.40},
	{"ES256", nameVerified, 64, 0.31},
	{"RS256", nameUnverified, 64, 0.73},
	{"PS256", nameUnverified, 64, 0.73},
	{"EdDSA", nameUnverified, 64, 0.54},
	{oaep, nameDecrypt, 64, 0.70},
	{"ES256", nameToProcess, 64, 85},
}

// floorOf returns the floor of a case.
func floorOf(alg, name string, clients int) (floor, bool) {
	for _, f := range floors {
		if f.alg == alg && f.name == name && f.clients == clients {
			return f, true
		}
	}
	return floor{}, false
}

// check writes a verdict for each floor, and returns an error if one is missed by more
// than the spread of the run, could not be measured, or was measured while the machine
// was too noisy to tell. Floors that o does not want are left out.
func (r report) check(out io.Writer, o options) error {
	var problems []string
	judged, noisy := 0, 0
	for _, f := range floors {
		if c := (benchCase{alg: f.alg, name: f.name}); !o.wants(c, f.clients) {
			continue
		}
		judged++
		d := r.find(f.alg, f.name, f.clients)
		problem := f.problem(d)
		if strings.HasPrefix(problem, "NOISY") {
			noisy++
		}
		if problem != "" {
			problems = append(problems, fmt.Sprintf("%s %s, %d clients: %s", f.alg, f.name, f.clients, problem))
		}
	}
	if judged == 0 {
		problems = append(problems, "no case with a floor was chosen")
	}
	fmt.Fprintf(out, "bench-check: %d floors, %d missed; load average %s before, %s after\n", judged, len(problems), r.LoadBefore, r.LoadAfter)
	err := errors.New("bench-check:\n" + strings.Join(problems, "\n"))
	switch {
	case len(problems) == 0:
		return nil
	case noisy == len(problems):
		return fmt.Errorf("%w: %w", errNoisy, err)
	default:
		return err
	}
}

// errNoisy means that nothing is wrong but the machine.
var errNoisy = errors.New("the machine is too noisy to tell")

// problem says what is wrong with d, or nothing.
func (f floor) problem(d *duel) string {
	switch {
	case d == nil:
		return "not measured"
	case d.Broken != "":
		return "BROKEN: " + d.Broken
	case d.Failures > 0:
		return fmt.Sprintf("%d failures: %s", d.Failures, d.Failure)
	case d.Ratio.noisy():
		return fmt.Sprintf("NOISY: the machine is too noisy to tell, twice: ratio %s", d.Ratio)
	case d.Ratio.Median+d.Ratio.width() < f.ratio:
		return fmt.Sprintf("ratio %s, below its floor of %.2f by more than the noise", d.Ratio, f.ratio)
	default:
		return ""
	}
}

// find returns the duel of a case, or nil.
func (r report) find(alg, name string, clients int) *duel {
	for i, d := range r.Duels {
		if d.Alg == alg && d.Case == name && d.Clients == clients {
			return &r.Duels[i]
		}
	}
	return nil
}
