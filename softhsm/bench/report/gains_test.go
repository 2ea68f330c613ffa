package report

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const benchOutput = `goos: linux
pkg: signetd/signer
BenchmarkVerifyP256/stdlib-2         	    5000	     46000 ns/op	    1234 B/op	      20 allocs/op
BenchmarkVerifyP256/the_tables-2     	   10000	     20000 ns/op	      2.5 cpu-µs/op
BenchmarkVerifyP256/stdlib-2         	    5000	     44000 ns/op
BenchmarkVerifyP256/the_tables-2     	   10000	     22000 ns/op	      3.5 cpu-µs/op
BenchmarkVerifyP256/the_tables-again-2	   10000	     1 ns/op
PASS
`

func TestGain(t *testing.T) {
	g := Gain{Name: "P-256 tables", Instead: "stdlib", Unit: "ns/op", Command: "go test"}
	m := mechanism{benchmark: "VerifyP256", ours: "the tables", other: "stdlib"}
	if err := g.fill(m, []byte(benchOutput)); err != nil {
		t.Fatal(err)
	}
	if g.OursMedian != 22000 || g.OtherMedian != 46000 || g.Times != (Spread{2.3, 2, 2.3}) {
		t.Errorf("gain is %+v", g)
	}

	slower := mechanism{benchmark: "VerifyP256", ours: "stdlib", other: "the tables"}
	if err := g.fill(slower, []byte(benchOutput)); err != nil || g.Times.Median >= 1 {
		t.Errorf("a mechanism that loses: %+v, %v", g, err)
	}

	if got := figures([]byte(benchOutput), "BenchmarkVerifyP256/the tables", "cpu-µs/op"); len(got) != 2 || got[1] != 3.5 {
		t.Errorf("figures of another unit are %v", got)
	}
	if err := g.fill(mechanism{benchmark: "VerifyP256", ours: "none", other: "stdlib"}, []byte(benchOutput)); err == nil {
		t.Error("a benchmark without one of its variants gave a gain")
	}
}

func TestGainsTable(t *testing.T) {
	r := Report{Gains: []Gain{
		{Name: "a", Instead: "b", Unit: "ns/op", Command: "go test", OursMedian: 20_000, OtherMedian: 46_000, Times: Spread{2.3, 2.2, 2.4}},
		{Name: "c", Instead: "d", Unit: "cpu-µs/op", Command: "go test", Broken: "no | module"},
	}}
	for _, want := range []string{"| a | b | 46 µs | 20 µs | 2.30 (2.20 to 2.40) | `go test` |", "| c | d | failed: no / module |"} {
		if got := string(r.gains()); !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

// Each mechanism has its benchmark, with both variants.
func TestMechanisms(t *testing.T) {
	for _, m := range mechanisms {
		files, err := filepath.Glob(filepath.Join("../../..", m.pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var code []byte
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code = append(code, text...)
		}
		// A name may be made of a number and the rest.
		last := func(name string) string { return name[strings.LastIndexByte(name, '/')+1:] + `"` }
		for _, want := range []string{"func Benchmark" + m.benchmark + "(", last(m.ours), last(m.other)} {
			if !bytes.Contains(code, []byte(want)) {
				t.Errorf("%s: the tests of %s have no %s", m.name, m.pkg, want)
			}
		}
	}
}
