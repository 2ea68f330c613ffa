//go:build !noaws

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"signetd/backends/awskms/awskmstest"
	"signetd/daemon/audit"
)

// A cloudDaemon is a daemon whose key oidc is in a fake of AWS KMS.
type cloudDaemon struct {
	*process

	aws *awskmstest.Server
	arn string
}

const cloudConfig = `
socket: {path: "DIR/s"}
audit: {path: "DIR/audit.jsonl", sync: never}
limits: {connections: 1000, in_flight: 500, per_peer: 500}
metrics: {listen: "DIR/m"}
backends:
  - name: cloud
    awskms: {region: eu-west-1, endpoint: "%s", attempt_timeout: %v, rates: {ecc: %d}}
keys:
  - {name: oidc, use: sig, algs: [ES256], versions: [{backend: cloud, ref: alias/oidc}]}
grants:
  - {peer: {user: %d}, ops: [sign-jws], keys: [oidc]}
`

// startCloud starts a daemon. prepare changes the fake before that.
func startCloud(t *testing.T, rate int, attemptTimeout time.Duration, prepare ...func(*cloudDaemon)) *cloudDaemon {
	t.Helper()
	d := &cloudDaemon{aws: awskmstest.New(t, awskmstest.Config{})}
	d.arn = d.aws.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
	d.aws.SetAlias("alias/oidc", d.arn)
	d.aws.Setenv(t)
	for _, f := range prepare {
		f(d)
	}

	t.Cleanup(func() { // after the daemon has ended
		if log := d.stderr.String(); !strings.Contains(log, "resolved from alias/oidc") || !strings.Contains(log, d.arn) {
			t.Errorf("the log does not say which key alias/oidc is:\n%s", log)
		}
	})
	d.process = startServe(t, fmt.Sprintf(cloudConfig, d.aws.URL(), attemptTimeout, rate, os.Getuid()))
	return d
}

const signOIDC = `{"key":"oidc","payload":"e30"}`

// records returns the audit log from record n on.
func (d *cloudDaemon) records(n int) []audit.Record {
	d.t.Helper()
	data, err := os.ReadFile(filepath.Join(d.dir, "audit.jsonl"))
	if err != nil {
		d.t.Fatal(err)
	}
	var records []audit.Record
	for line := range bytes.Lines(data) {
		var r audit.Record
		if err := json.Unmarshal(line, &r); err != nil {
			d.t.Fatalf("%s: %v", line, err)
		}
		records = append(records, r)
	}
	return records[n:]
}

// metric returns the value of a series, or 0 if the daemon does not have it: a counter
// appears when it first counts.
func (d *cloudDaemon) metric(series string) float64 {
	d.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(d.dir, "m"))
	}}}
	resp, err := client.Get("http://signetd/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				d.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// TestCloudFaults checks what the answer, the audit log and the metrics say about a fault
// of the service.
func TestCloudFaults(t *testing.T) {
	d := startCloud(t, 100_000, 500*time.Millisecond)
	tests := []struct {
		name     string
		fault    awskmstest.Fault
		times    int
		status   int
		outcome  string
		retry    string
		reason   string
		attempts float64
	}{
		{"none", awskmstest.Before(func() {}), 1, 200, "ok", "", "", 1},
		{"throttling", awskmstest.Throttling(), 1, 429, "overloaded", "1", "throttles", 1},
		{"503 once", awskmstest.Status(503), 1, 200, "ok", "", "", 2},
		{"503", awskmstest.Status(503), 3, 503, "unavailable", "1", "status 503", 3},
		{"hang", awskmstest.Hang(), 3, 503, "unavailable", "1", "no answer within 500ms", 3},
		{"{}", awskmstest.Empty(), 3, 503, "unavailable", "1", "names no key", 3},
		{"another key's ARN", awskmstest.OtherARN(), 1, 500, "internal", "", "another key's", 1},
		{"another key's signature", awskmstest.OtherKey(), 1, 500, "internal", "", "does not verify", 1},
		{"no permission", awskmstest.Error("AccessDeniedException", ""), 1, 503, "unavailable", "1", "lack the permission", 1},
		{"disabled", awskmstest.Error("DisabledException", ""), 1, 503, "unavailable", "1", "enable it", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d.aws.Inject("Sign", 1, tt.times, tt.fault)
			defer d.aws.Heal()
			time.Sleep(50 * time.Millisecond) // after a throttled call, the next ones are delayed
			n := len(d.records(0))
			request := fmt.Sprintf(`signetd_requests_total{alg="ES256",key="oidc",op="sign-jws",outcome=%q}`, tt.outcome)
			backend := fmt.Sprintf(`signetd_backend_seconds_count{backend="cloud",outcome=%q,use="sig"}`, tt.outcome)
			const attempts = `signetd_cloud_attempts_total{backend="cloud"}`
			before := map[string]float64{request: d.metric(request), backend: d.metric(backend), attempts: d.metric(attempts)}

			status, retry, body, err := d.do("POST", "/v1/jws/sign", signOIDC)
			if err != nil || status != tt.status || retry != tt.retry {
				t.Errorf("sign = %d, Retry-After %q, %s, %v; want %d and %q", status, retry, body, err, tt.status, tt.retry)
			}
			if status == 500 && bytes.Contains(body, []byte("key")) {
				t.Errorf("%s: a peer must not learn what failed inside", body)
			}

			records := d.records(n)
			if len(records) != 1 || records[0].Outcome != tt.outcome || !strings.Contains(records[0].Reason, tt.reason) || records[0].KID == "" {
				t.Errorf("audit: %+v, want one record of %q with %q", records, tt.outcome, tt.reason)
			}
			for series, want := range map[string]float64{request: 1, backend: 1, attempts: tt.attempts} {
				if got := d.metric(series) - before[series]; got != want {
					t.Errorf("%s grew by %g, want %g", series, got, want)
				}
			}
		})
	}
}

// TestCloudKeyComesBack starts a daemon whose only key is disabled in AWS KMS. The daemon
// starts, answers 503, and signs once the key is enabled.
func TestCloudKeyComesBack(t *testing.T) {
	d := startCloud(t, 100_000, 500*time.Millisecond, func(d *cloudDaemon) { d.aws.SetState(d.arn, awskmstest.Disabled) })
	status, _, body, err := d.do("POST", "/v1/jws/sign", signOIDC)
	if err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("sign with a disabled key = %d %s, %v; want 503", status, body, err)
	}

	d.aws.SetState(d.arn, awskmstest.Enabled)
	for late := time.Now().Add(30 * time.Second); status != http.StatusOK; time.Sleep(50 * time.Millisecond) {
		if status, _, body, err = d.do("POST", "/v1/jws/sign", signOIDC); err != nil || time.Now().After(late) {
			t.Fatalf("sign with the key enabled again = %d %s, %v", status, body, err)
		}
	}
}

// TestCloudThrottle sends a thousand requests a second to a key whose service allows 300,
// or whose backend is configured to make 300 calls. That many succeed, and the others get
// 429 at once, while the daemon stays healthy and small. The race detector takes time and
// memory of its own: with it there are fewer requests, and neither is checked.
func TestCloudThrottle(t *testing.T) {
	const seconds, unlimited = 5, 100_000
	perSecond, allowed := 1000, 300
	if raceEnabled {
		perSecond, allowed = 100, 30
	}
	for name, tt := range map[string]struct{ rate, quota int }{"by the service": {unlimited, allowed}, "by the rate of the backend": {allowed, 0}} {
		t.Run(name, func(t *testing.T) {
			d := startCloud(t, tt.rate, 1500*time.Millisecond)
			d.aws.SetQuota(tt.quota)
			var slow error
			for range throttleTries {
				l := d.offer(seconds, perSecond)
				signed, refused := len(l.took[200]), len(l.took[429])
				if signed+refused != seconds*perSecond {
					t.Fatalf("%d signed and %d refused, want %d in all", signed, refused, seconds*perSecond)
				}
				if most := int(l.lasted.Seconds()*float64(allowed)*1.05) + allowed/10; signed > most {
					t.Errorf("%d signed in %v, want %d at most", signed, l.lasted, most)
				}
				slices.Sort(l.took[429])
				t.Logf("%d/s offered for %d s: %d signed, %d refused; refusals p50 %v p99 %v max %v; peak %d KiB; share of the rate used %.2f; sent to AWS %d",
					perSecond, seconds, signed, refused, l.took[429][refused/2], l.took[429][refused*99/100], l.took[429][refused-1], d.peak(), l.used, d.aws.Calls()["Sign"])
				if slow = l.slow(seconds*allowed, tt.quota == 0); raceEnabled || slow == nil {
					break
				}
			}
			if raceEnabled {
				return
			}
			if slow != nil {
				t.Errorf("%v, %d times in a row", slow, throttleTries)
			}
			if rss := d.peak(); rss > 100<<10 {
				t.Errorf("the daemon took %d KiB, want less than 100 MiB", rss)
			}
		})
	}
}

// throttleTries is how often the times are measured before the test fails: another program
// on the machine can spoil a measurement.
const throttleTries = 4

// slow returns an error unless nearly as many requests were signed as the rate allows, and
// the others were refused within 50 ms. If own is set, the rate is the backend's, and its
// metric must show that it was used up.
func (l *cloudLoad) slow(allowed int, own bool) error {
	refused := l.took[429]
	p99 := refused[len(refused)*99/100]
	switch signed := len(l.took[200]); {
	case signed < allowed*9/10:
		return fmt.Errorf("%d signed, want %d at least", signed, allowed*9/10)
	case p99 > 50*time.Millisecond:
		return fmt.Errorf("a refusal took %v (the 99th percentile), want 50ms at most", p99)
	case own && (l.used < 0.8 || l.used > 1.2):
		return fmt.Errorf("signetd_cloud_quota_used = %.2f, want about 1", l.used)
	}
	return nil
}

// A cloudLoad is the result of [cloudDaemon.offer].
type cloudLoad struct {
	mu     sync.Mutex
	took   map[int][]time.Duration // by status; guarded by mu until offer returns
	used   float64                 // share of the rate, measured during the load
	lasted time.Duration
}

// offer sends requests at a steady rate, without waiting for answers, and asks for the
// daemon's health once a second.
func (d *cloudDaemon) offer(seconds, perSecond int) *cloudLoad {
	d.t.Helper()
	l := &cloudLoad{took: map[int][]time.Duration{}}
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range seconds * perSecond {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		wg.Go(func() { // ends with its answer
			start := time.Now()
			status, retry, body, err := d.do("POST", "/v1/jws/sign", signOIDC)
			took := time.Since(start)
			if err != nil || status != 200 && (status != 429 || retry != "1") {
				d.t.Errorf("sign = %d, Retry-After %q, %s, %v", status, retry, body, err)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.took[status] = append(l.took[status], took)
		})
		if i%perSecond == perSecond/2 {
			for _, path := range []string{"/v1/health", "/v1/ready"} {
				if status, _, body, err := d.do("GET", path, ""); err != nil || status != 200 {
					d.t.Errorf("%s = %d %s, %v", path, status, body, err)
				}
			}
			l.used = d.metric(`signetd_cloud_quota_used{backend="cloud",class="ecc"}`)
		}
	}

	wg.Wait()
	l.lasted = time.Since(begin)
	return l
}

// peak returns the most memory that the daemon has had, in KiB.
func (d *cloudDaemon) peak() int {
	d.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(text)[0])
			if err != nil {
				d.t.Fatal(err)
			}
			return n
		}
	}
	d.t.Fatal("no VmHWM")
	return 0
}
