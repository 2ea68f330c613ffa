package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"signetd/daemon/audit"
	"signetd/signer"
)

// The log has a line for the beginning of an outage and one for its end, however
// many requests there are.
func TestOutages(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var o outages
	note := func(key, kid string, outcome error) string {
		out.Reset()
		o.track(log, &audit.Record{Key: key, KID: kid, Outcome: signer.Code(outcome)}, outcome)
		return out.String()
	}
	down := fmt.Errorf("%w: the PIN in /etc/pin", signer.ErrUnavailable)
	for _, tt := range []struct {
		key, kid string
		outcome  error
		want     string
	}{
		{"oidc", "k1", nil, ""},
		{"nobody", "", down, ""},
		{"oidc", "k1", down, "level=WARN"},
		{"oidc", "k1", down, ""},
		{"oidc", "k1", signer.ErrInvalid, ""},
		{"inbox", "k2", nil, ""},
		{"inbox", "k2", down, "key=inbox"},
		{"oidc", "k1", nil, "key available again"},
		{"oidc", "k1", nil, ""},
		{"oidc", "k1", down, "/etc/pin"},
	} {
		if got := note(tt.key, tt.kid, tt.outcome); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s %v: logged %q, want %q", tt.key, tt.outcome, got, tt.want)
		}
	}
}
