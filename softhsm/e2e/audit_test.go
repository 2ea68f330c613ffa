package e2e

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"signetd/daemon/api"
)

// readMetrics reads the metrics of a daemon, from a Unix socket or a TCP address.
func (p *process) readMetrics(where string) string {
	p.t.Helper()
	client, url := http.DefaultClient, "http://"+where+"/metrics"
	if strings.HasPrefix(where, "/") {
		client, url = newPlainClient(where), "http://metrics/metrics"
	}
	resp, err := client.Get(url)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("metrics: %d %v", resp.StatusCode, err)
	}
	return string(text)
}

// value returns the value of a metric. The name includes the labels, as in the text format.
func value(t *testing.T, metrics, name string) string {
	t.Helper()
	for line := range strings.Lines(metrics) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return "absent"
}

// The daemon withholds an answer whose audit record it cannot write.
func TestE2EAuditLogFull(t *testing.T) {
	s := newSettings(t)
	s.audit = "{path: /dev/full, sync: never}"
	s.metrics = `{listen: "$dir/m.sock"}`
	p := start(t, s)
	jwt := p.do(http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body)
	answers := []answer{
		jwt, p.do(http.MethodGet, api.ListKeys.Path, nil), p.do(http.MethodGet, api.GetJWKS.Path, nil),
		p.do(http.MethodPost, api.SignJWT.Path, "{"), p.do(http.MethodPost, api.SignJWT.Path, signRequest("nobody").Body),
		p.do(http.MethodPost, api.DecryptJWE.Path, `{"jwe":""}`), p.do(http.MethodPost, api.ReloadConfig.Path, "{}"),
		p.do(http.MethodPost, api.SignJWS.Path, `{"key":"notes","payload":"AAAA"}`),
		p.do(http.MethodPost, api.EncryptJWE.Path, `{"key":"inbox","plaintext":"AAAA"}`),
	}
	for i, a := range answers {
		if msg := a.wantError(t, http.StatusServiceUnavailable, "unavailable"); !strings.Contains(msg, "audit") || a.withoutID() != jwt.withoutID() {
			t.Errorf("answer %d: %s", i, a.body)
		}
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}

	p.alive() // uses no key and needs no record
	text := p.readMetrics(s.path("m.sock"))
	if got, want := value(t, text, "signetd_audit_errors_total"), "9"; got != want {
		t.Errorf("signetd_audit_errors_total %s, want %s", got, want)
	}
	if strings.Contains(text, `signetd_requests_total{alg="ES256",key="oidc",op="sign-jwt",outcome="ok"}`) {
		t.Error("an answer that was withheld counts as ok")
	}

	if !strings.Contains(p.stderr.String(), "audit record not written") {
		t.Error("the log does not say so")
	}
}

// freeAddress returns a TCP address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

func TestE2EMetrics(t *testing.T) {
	s := newSettings(t)
	for name, where := range map[string]string{"on a Unix socket": s.path("m.sock"), "on a loopback address": freeAddress(t)} {
		t.Run(name, func(t *testing.T) {
			s.metrics = `{listen: "` + where + `"}`
			p := start(t, s)
			p.t = t
			p.sign("oidc", "")
			p.sign("oidc", "")
			p.do(http.MethodPost, api.SignJWT.Path, signRequest("made-up-by-a-peer").Body)
			p.do(http.MethodPost, api.SignJWT.Path, `{"key":"oidc","claims":{"aud":"nobody"},"alg":"made-up-alg"}`)
			p.do(http.MethodPost, api.DecryptJWE.Path, `{"jwe":"e30.a.b.c.d","key":"made-up-by-a-peer"}`)
			p.do(http.MethodPost, api.DecryptJWE.Path, `{"jwe":"e30.a.b.c.d","key":"inbox"}`)
			p.do(http.MethodGet, api.ListKeys.Path+"/made-up-by-a-peer", nil)
			p.do(http.MethodGet, "/made-up-by-a-peer", nil)

			text := p.readMetrics(where)
			for metric, want := range map[string]string{
				`signetd_requests_total{alg="ES256",key="oidc",op="sign-jwt",outcome="ok"}`: "2",
				`signetd_requests_total{alg="",key="",op="sign-jwt",outcome="denied"}`:      "1",
				`signetd_requests_total{alg="",key="",op="decrypt",outcome="denied"}`:       "1",
				`signetd_requests_in_flight`: "0", `signetd_audit_errors_total`: "0",
				`signetd_pkcs11_logins_total{backend="hsm"}`: "1", `signetd_pkcs11_down{backend="hsm"}`: "0",
			} {
				if got := value(t, text, metric); got != want {
					t.Errorf("%s is %s, want %s", metric, got, want)
				}
			}

			if strings.Contains(text, "made-up") {
				t.Error("what a peer made up is a label")
			}
			for _, name := range []string{"signetd_request_seconds_bucket", "signetd_queue_seconds_bucket", "signetd_backend_seconds_bucket", "signetd_build_info", "signetd_connections "} {
				if !strings.Contains(text, "\n"+name) {
					t.Errorf("no %s", name)
				}
			}

			lintMetrics(t, text)
			p.stop()
			if _, err := os.Lstat(s.path("m.sock")); err == nil {
				t.Error("the socket of the metrics is still there")
			}
		})
	}
}

// lintMetrics checks the metrics with promtool, if it is installed.
func lintMetrics(t *testing.T, text string) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		return
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool: %v: %s", err, out)
	}
}

// After logrotate has moved the audit log away, the next reload creates a new one.
func TestE2EAuditLogRotated(t *testing.T) {
	s := newSettings(t).oneKey()
	p := start(t, s)
	first := p.sign("oidc", "")
	if err := os.Rename(s.path("audit.jsonl"), s.path("audit.1")); err != nil {
		t.Fatal(err)
	}

	second := p.sign("oidc", "")
	p.hangUp()
	third := p.sign("oidc", "")
	for file, tokens := range map[string][]api.SignJWTResponse{"audit.1": {first, second}, "audit.jsonl": {third}} {
		var have []string
		for _, r := range parseRecords(t, readFile(t, s.path(file))) {
			if r.Op == "sign-jwt" {
				have = append(have, r.JTI)
			}
		}
		if len(have) != len(tokens) || have[0] != claim(t, tokens[0].Token, "jti") {
			t.Errorf("%s has %v", file, have)
		}
	}

	if info, err := os.Stat(s.path("audit.jsonl")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the new log: %v %v", info.Mode(), err)
	}
}
