package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// elements counts the elements of a document, which must be well-formed.
func elements(t *testing.T, svg []byte) map[string]int {
	t.Helper()
	count := map[string]int{}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return count
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			count[e.Name.Local]++
		}
	}
}

func TestPlot(t *testing.T) {
	svg := plot("a < b & c", "1/s", []curve{
		{"in process", []point{{1, 10_000}, {1000, 20_000}}}, {"signetd", []point{{1, 0}, {64, 5_000}, {1000, 7_500}}},
	})
	count := elements(t, svg)
	if count["polyline"] != 2 || count["circle"] != 5 {
		t.Errorf("%d lines and %d points, want 2 and 5", count["polyline"], count["circle"])
	}
	for _, want := range []string{
		`points="70.0,205.0 570.0,40.0 "`, // the least number of clients is at the left, the largest value on top
		`>a &lt; b &amp; c<`, `>20k<`, `>1000<`, `>signetd<`,
	} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("the plot has no %s:\n%s", want, svg)
		}
	}
}

func TestPlotOfNothing(t *testing.T) {
	for name, curves := range map[string][]curve{"no curve": nil, "nothing but zero": {{"a", []point{{1, 0}}}}} {
		svg := plot("nothing", "1/s", curves)
		elements(t, svg)
		if strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
			t.Errorf("%s: %s", name, svg)
		}
	}
}

// A plot has the cases of ES256 that have figures, and the reference once.
func TestCurves(t *testing.T) {
	r := Report{Duels: []Duel{
		{Alg: "ES256", Case: Verified, Clients: 1, Reference: 10, PerSecond: 1}, {Alg: "ES256", Case: Verified, Clients: 8, Reference: 20, PerSecond: 2},
		{Alg: "ES256", Case: Unverified, Clients: 1, Reference: 11, PerSecond: 3}, {Alg: "ES256", Case: P11Kit, Clients: 8, Broken: "no p11-kit"},
		{Alg: "RS256", Case: Verified, Clients: 1, Reference: 4, PerSecond: 4}, {Alg: "ES256", Case: "crypto11", Clients: 1, Reference: 5, PerSecond: 5},
	}}
	got := map[string][]point{}
	for _, c := range r.curves(func(d Duel) (float64, float64) { return d.Reference, d.PerSecond }) {
		got[c.name] = c.points
	}
	want := map[string][]point{"in process": {{1, 10}, {8, 20}}, "signetd": {{1, 1}, {8, 2}}, "signetd, verify off": {{1, 3}}}
	if len(got) != len(want) {
		t.Errorf("curves %v, want %v", got, want)
	}
	for name, points := range want {
		for i, p := range points {
			if len(got[name]) != len(points) || got[name][i] != p {
				t.Errorf("%s: %v, want %v", name, got[name], points)
				break
			}
		}
	}
}
