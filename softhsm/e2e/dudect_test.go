package e2e

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// These tests ask whether two kinds of input take the same time, with the method of
// dudect (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?", DATE 2017):
// they measure both kinds in random order, and Welch's t-test says whether the means
// differ. An absolute value of t above 5 is not chance.

// leak is the absolute value of t above which the test can tell two kinds apart.
const leak = 5

// crops are the shares of the measurements that are tested: all of them, and the
// shortest, because the scheduler or the garbage collector interrupted the longest. One
// bound, of both kinds together, cuts both, so that cropping favours neither.
var crops = []float64{1, 0.99, 0.9, 0.5}

// A contest is between two kinds of input of type I.
type contest[I any] struct {
	name  string
	kinds [2]string
	// input makes a new input of a kind. It is not measured. It runs long before the
	// input is used, so that both kinds find the same caches.
	input func(kind int) I
	// use is the measured function.
	use func(input I) error
}

// A verdict is the result of a contest.
type verdict struct {
	n       int // measurements of each kind
	means   [2]time.Duration
	t       []float64 // for each of crops
	largest float64   // of the absolute values of t
}

func (v verdict) leaks() bool { return v.largest >= leak }

func (v verdict) String() string {
	var b strings.Builder
	for i, t := range v.t {
		fmt.Fprintf(&b, " t=%+.2f (%g %%)", t, crops[i]*100)
	}
	return fmt.Sprintf("%d of each, means %v and %v,%s", v.n, v.means[0], v.means[1], b.String())
}

// run measures n inputs of each kind.
func (c contest[I]) run(n int) (verdict, error) {
	const batch = 100
	var took [2][]float64
	for len(took[0]) < n {
		type shot struct {
			kind  int
			input I
		}
		var shots []shot
		for range batch {
			shots = append(shots, shot{0, c.input(0)}, shot{1, c.input(1)})
		}
		rand.Shuffle(len(shots), func(i, j int) { shots[i], shots[j] = shots[j], shots[i] }) // #nosec G404 -- an order

		for i, s := range shots {
			began := time.Now()
			err := c.use(s.input)
			d := time.Since(began)
			if err != nil {
				return verdict{}, err
			}
			if i >= 4 { // the first few follow a pause and are slower
				took[s.kind] = append(took[s.kind], float64(d))
			}
		}
	}

	return judge(took), nil
}

func judge(took [2][]float64) verdict {
	v := verdict{n: min(len(took[0]), len(took[1]))}
	all := slices.Sorted(slices.Values(slices.Concat(took[0], took[1])))
	for i, crop := range crops {
		bound := all[int(crop*float64(len(all)-1))]
		t, means := welch(below(took[0], bound), below(took[1], bound))
		if i == 0 {
			v.means = means
		}
		v.t = append(v.t, t)
		v.largest = max(v.largest, math.Abs(t))
	}
	return v
}

func below(values []float64, bound float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return v > bound })
}

// welch is the statistic of Welch's t-test, with the mean of each kind.
func welch(a, b []float64) (t float64, means [2]time.Duration) {
	meanA, varA := moments(a)
	meanB, varB := moments(b)
	t = (meanA - meanB) / math.Sqrt(varA/float64(len(a))+varB/float64(len(b)))
	return t, [2]time.Duration{time.Duration(meanA), time.Duration(meanB)}
}

func moments(values []float64) (mean, variance float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		variance += (v - mean) * (v - mean) / float64(len(values)-1)
	}
	return mean, variance
}

// attempts is how often a contest runs before it counts as lost. A leak shows every time;
// a disturbance of the machine does not.
const attempts = 4

// fair fails the test if the two kinds can be told apart.
func (c contest[I]) fair(t *testing.T, n int) {
	t.Helper()
	for range attempts {
		v, err := c.run(n)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		t.Logf("%s, %s against %s: %v", c.name, c.kinds[0], c.kinds[1], v)
		if !v.leaks() {
			return
		}
	}
	t.Errorf("%s: %s and %s are told apart by their time, %d times in a row", c.name, c.kinds[0], c.kinds[1], attempts)
}

// unfair fails the test if the two kinds cannot be told apart. It is for inputs with a
// known difference: a method that finds no leak there would find none anywhere.
func (c contest[I]) unfair(t *testing.T, n int) {
	t.Helper()
	for range attempts {
		v, err := c.run(n)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		t.Logf("%s, %s against %s: %v", c.name, c.kinds[0], c.kinds[1], v)
		if v.leaks() {
			return
		}
	}
	t.Errorf("%s: %s and %s were not told apart: the statistics are blind", c.name, c.kinds[0], c.kinds[1])
}

// TestWelch checks the statistic on samples whose t is known.
func TestWelch(t *testing.T) {
	// The first example of Wikipedia's "Welch's t-test".
	a := []float64{27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4}
	b := []float64{27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4}
	if got, _ := welch(a, b); math.Abs(got+2.46) > 0.005 {
		t.Errorf("t = %.3f, want -2.46", got)
	}

	r := rand.New(rand.NewPCG(3, 4)) // #nosec G404 -- samples
	draw := func(shift float64) (took [2][]float64) {
		for range 2000 {
			for kind := range took {
				took[kind] = append(took[kind], 1000+r.ExpFloat64()*100+shift*float64(kind))
			}
		}
		return took
	}

	if v := judge(draw(0)); v.leaks() {
		t.Errorf("equal kinds: %v", v)
	}
	if v := judge(draw(30)); !v.leaks() {
		t.Errorf("kinds that differ by 30 in 1100: %v", v)
	}
}
