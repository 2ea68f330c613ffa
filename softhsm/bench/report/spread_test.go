package report

import "testing"

func TestSpread(t *testing.T) {
	tests := []struct {
		name string
		x    []float64
		want Spread
		text string
	}{
		{"nothing", nil, Spread{}, "0.00 (0.00 to 0.00)"},
		{"one", []float64{0.5}, Spread{0.5, 0.5, 0.5}, "0.50 (0.50 to 0.50)"},
		{"nine, in no order", []float64{9, 1, 8, 2, 7, 3, 6, 4, 5}, Spread{5, 3, 7}, "5.00 (3.00 to 7.00) too noisy"},
		{"one far off", []float64{1, 1, 1, 1, 1, 1, 1, 1, 100}, Spread{1, 1, 1}, "1.00 (1.00 to 1.00)"},
		{"small", []float64{0.01, 0.01, 0.012}, Spread{0.01, 0.01, 0.012}, "0.0100 (0.0100 to 0.0120)"},
	}
	for _, tt := range tests {
		got := SpreadOf(tt.x)
		if got != tt.want || got.String() != tt.text {
			t.Errorf("%s: SpreadOf(%v) = %+v, %q, want %+v, %q", tt.name, tt.x, got, got, tt.want, tt.text)
		}
	}
}

func TestNoisy(t *testing.T) {
	for s, want := range map[Spread]bool{
		{1, 0.8, 1.3}: false, {1, 0.8, 1.31}: true, {100, 90, 110}: false, {0.1, 0.05, 0.11}: true, {}: false,
	} {
		if got := s.Noisy(); got != want {
			t.Errorf("%+v: noisy is %t, want %t", s, got, want)
		}
	}
}
