package pkcs11

import "testing"

func TestVerdict(t *testing.T) {
	tests := []struct {
		severities []Severity
		want       Severity
	}{
		{nil, OK},
		{[]Severity{OK, OK}, OK},
		{[]Severity{OK, Warn, OK}, Warn},
		{[]Severity{Warn, Fail, OK}, Fail},
		{[]Severity{Fail, Warn}, Fail},
	}

	for _, tt := range tests {
		var r Report
		for _, s := range tt.severities {
			r.add(s, "code", "subject", "problem", "")
		}
		if got := r.Verdict(); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.severities, got, tt.want)
		}
	}
}
