package report

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Floor is a ratio below which a case must not fall.
type Floor struct {
	Alg, Case string
	Clients   int
	Ratio     float64
}

// Floors hold what was reached, so that it is not lost unnoticed: see
// docs/performance.md.
var Floors = []Floor{
	{"ES256", Unverified, 64, 0.40},
	{"ES256", Verified, 64, 0.31},
	{"RS256", Unverified, 64, 0.73},
	{"PS256", Unverified, 64, 0.73},
	{"EdDSA", Unverified, 64, 0.54},
	{OAEP, Decrypt, 64, 0.70},
	{"ES256", ToTool, 64, 85},
}

// FloorOf returns the floor of a case.
func FloorOf(alg, name string, clients int) (Floor, bool) {
	for _, f := range Floors {
		if f.Alg == alg && f.Case == name && f.Clients == clients {
			return f, true
		}
	}
	return Floor{}, false
}

// ErrNoisy means that nothing is wrong but the machine: it is too noisy to tell.
var ErrNoisy = errors.New("the machine is too noisy to tell")

// Check judges the floors that are chosen. It returns an error if a case missed its
// floor by more than the spread of the run, could not be measured, or was measured while
// the machine was too noisy to tell.
func (r Report) Check(out io.Writer, chosen func(Floor) bool) error {
	var problems []string
	judged, noisy := 0, 0
	for _, f := range Floors {
		if !chosen(f) {
			continue
		}
		judged++
		problem := f.problem(r.find(f.Alg, f.Case, f.Clients))
		if strings.HasPrefix(problem, "NOISY") {
			noisy++
		}
		if problem != "" {
			problems = append(problems, fmt.Sprintf("%s %s, %d clients: %s", f.Alg, f.Case, f.Clients, problem))
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
		return fmt.Errorf("%w: %w", ErrNoisy, err)
	default:
		return err
	}
}

// problem says what is wrong with d. It returns "" if the floor holds.
func (f Floor) problem(d *Duel) string {
	switch {
	case d == nil:
		return "not measured"
	case d.Broken != "":
		return "BROKEN: " + d.Broken
	case d.Failures > 0:
		return fmt.Sprintf("%d failures: %s", d.Failures, d.Failure)
	case d.Ratio.Noisy():
		return fmt.Sprintf("NOISY: the machine is too noisy to tell, twice: ratio %s", d.Ratio)
	case d.Ratio.Median+d.Ratio.width() < f.Ratio:
		return fmt.Sprintf("ratio %s, below its floor of %.2f by more than the noise", d.Ratio, f.Ratio)
	default:
		return ""
	}
}
