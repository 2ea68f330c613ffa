package report

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// A curve is a line of a plot.
type curve struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// The plot's measures in pixels.
const (
	plotWidth, plotHeight          = 760, 420
	plotLeft, plotRight            = 70, 190
	plotTop, plotBottom            = 40, 50
	innerWidth                     = plotWidth - plotLeft - plotRight
	innerHeight                    = plotHeight - plotTop - plotBottom
	labelGap                       = 18
	ticks                          = 5
	minDecade, thousand, dotRadius = 1.0, 1000.0, 3
)

var colours = []string{"#333333", "#0b6e4f", "#c8553d", "#3d5a80", "#8f6593", "#b08900"}

// plot draws curves over the number of clients, on a logarithmic axis, as SVG.
func plot(title, unit string, curves []curve) []byte {
	largest, most := 0.0, minDecade
	for _, c := range curves {
		for _, p := range c.points {
			largest, most = math.Max(largest, p.y), math.Max(most, p.x)
		}
	}
	if largest == 0 {
		largest = 1
	}

	x := func(v float64) float64 {
		return plotLeft + innerWidth*math.Log(math.Max(v, minDecade))/math.Log(math.Max(most, 2))
	}
	y := func(v float64) float64 { return plotTop + innerHeight*(1-v/largest) }

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="22" font-size="15">%s</text>`+"\n", plotLeft, html.EscapeString(title))

	for i := range ticks + 1 {
		v := largest * float64(i) / ticks
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#dddddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, plotLeft+innerWidth, y(v), y(v), plotLeft-8, y(v)+4, short(v))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><text x="%d" y="%d" text-anchor="middle">clients</text>`+"\n",
		plotLeft-8, plotTop-10, html.EscapeString(unit), plotLeft+innerWidth/2, plotHeight-10)

	for v := minDecade; v <= most; v *= 10 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(v), plotHeight-plotBottom+labelGap, v)
	}

	for i, c := range curves {
		colour := colours[i%len(colours)]
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour)
		for _, p := range c.points {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(p.x), y(p.y))
		}
		b.WriteString(`"/>` + "\n")

		for _, p := range c.points {
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="%d" fill="%s"/>`, x(p.x), y(p.y), dotRadius, colour)
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", plotLeft+innerWidth+12, plotTop+labelGap*i+10, colour, html.EscapeString(c.name))
	}

	b.WriteString("</svg>\n")
	return b.Bytes()
}

// short writes a number in few digits.
func short(v float64) string {
	switch {
	case v >= thousand:
		return fmt.Sprintf("%.3gk", v/thousand)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// plotted are the cases in the plots, by the name in the legend.
var plotted = map[string]string{
	Verified: "signetd", Unverified: "signetd, verify off", P11Kit: "p11-kit server",
}

// curves are those of a plot. figures returns the two figures of a duel that make a
// point each. The reference's curve is made of the duels of one case alone.
func (r Report) curves(figures func(Duel) (reference, own float64)) []curve {
	var list []curve
	add := func(name string, clients int, y float64) {
		for i := range list {
			if list[i].name == name {
				list[i].points = append(list[i].points, point{float64(clients), y})
				return
			}
		}
		list = append(list, curve{name: name, points: []point{{float64(clients), y}}})
	}

	for _, d := range r.Duels {
		name, ok := plotted[d.Case]
		if d.Alg != "ES256" || !ok || d.Broken != "" {
			continue
		}
		reference, own := figures(d)
		if name == "signetd" {
			add("in process", d.Clients, reference)
		}
		add(name, d.Clients, own)
	}
	return list
}
