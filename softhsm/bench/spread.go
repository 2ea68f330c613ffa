//go:build linux && cgo

package main

import (
	"fmt"
	"slices"
)

// A spread is a median and the quartiles round it.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func spreadOf(x []float64) spread {
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	if n == 0 {
		return spread{}
	}
	return spread{Median: median(x), Low: x[n/4], High: x[n-1-n/4]}
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	if len(x) == 0 {
		return 0
	}
	return x[len(x)/2]
}

// noise is the width of a spread, beside its median, above which a figure says nothing.
const noise = 0.5

// width is the distance of the quartiles.
func (s spread) width() float64 { return s.High - s.Low }

// noisy reports whether the spread is so wide that the median says nothing.
func (s spread) noisy() bool { return s.width() > noise*s.Median }

func (s spread) String() string {
	text := fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Low, s.High)
	if s.Median != 0 && s.Median < 0.1 {
		text = fmt.Sprintf("%.4f (%.4f to %.4f)", s.Median, s.Low, s.High)
	}
	if s.noisy() {
		text += " too noisy"
	}
	return text
}
