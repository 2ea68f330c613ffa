package report

import (
	"fmt"
	"slices"
)

// A Spread is a median and the quartiles round it.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// SpreadOf returns the spread of x, which may be in any order.
func SpreadOf(x []float64) Spread {
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	if n == 0 {
		return Spread{}
	}
	return Spread{Median: x[n/2], Low: x[n/4], High: x[n-1-n/4]}
}

// Median returns the median of x, which may be in any order.
func Median(x []float64) float64 { return SpreadOf(x).Median }

// noise is the width of a spread, as a part of its median, above which the median says
// nothing.
const noise = 0.5

func (s Spread) width() float64 { return s.High - s.Low }

// Noisy reports whether the quartiles are so far apart that the median says nothing.
func (s Spread) Noisy() bool { return s.width() > noise*s.Median }

func (s Spread) String() string {
	text := fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Low, s.High)
	if s.Median != 0 && s.Median < 0.1 {
		text = fmt.Sprintf("%.4f (%.4f to %.4f)", s.Median, s.Low, s.High)
	}
	if s.Noisy() {
		text += " too noisy"
	}
	return text
}
