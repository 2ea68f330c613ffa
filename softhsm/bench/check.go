//go:build linux && cgo

package main

import (
	"fmt"
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
	{"ES256", "signetd jwt/sign, verify off", 64, 0.25},
	{"ES256", "signetd jwt/sign", 64, 0.17},
	{"RS256", "signetd jwt/sign, verify off", 64, 0.65},
	{"RSA-OAEP-256", "signetd jwe/decrypt", 64, 0.65},
}

// noisy is the width of a spread, beside its median, above which a ratio says
// nothing.
const noisy = 0.5

// check returns an error where a ratio is below its floor by more than the spread of
// the run. A spread so wide that nothing can be said is an error, too.
func (r report) check() error {
	var problems []string
	seen := 0
	for _, f := range floors {
		for _, d := range r.Duels {
			if d.Alg != f.alg || d.Case != f.name || d.Clients != f.clients {
				continue
			}
			seen++
			width := d.Ratio.High - d.Ratio.Low
			switch {
			case d.Failures > 0:
				problems = append(problems, fmt.Sprintf("%s: %d failures: %s", d, d.Failures, d.Failure))
			case width > noisy*d.Ratio.Median:
				problems = append(problems, fmt.Sprintf("%s: the machine is too noisy to tell", d))
			case d.Ratio.Median+width < f.ratio:
				problems = append(problems, fmt.Sprintf("%s: below its floor of %.2f", d, f.ratio))
			}
		}
	}
	if seen == 0 {
		problems = append(problems, "none of the cases that have a floor was measured")
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s", strings.Join(problems, "\n"))
	}
	return nil
}
