//go:build !noaws && !nogcp

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
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/awskms/awskmstest"
	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/daemon/api"
)

// A multiDaemon is a signetd, in a process of its own, with keys in fakes of AWS KMS and
// Google Cloud KMS.
type multiDaemon struct {
	t      *testing.T
	dir    string
	client *http.Client
	cmd    *exec.Cmd
}

// In each backend the first key that the config names is the one that a test makes
// unusable. Key rotated has an old version in AWS, which is unusable, too, and a new one.
const multiConfig = `
socket: {path: "%[1]s/s"}
audit: {path: "%[1]s/audit.jsonl", sync: never}
backends:
  - {name: aws, awskms: {region: eu-west-1, endpoint: "%[2]s", attempt_timeout: 500ms}}
  - {name: gcp, gcpkms: {endpoint: "%[3]s", plaintext: true, attempt_timeout: 500ms}}
keys:
  - {name: aws-first, use: sig, algs: [ES256], versions: [{backend: aws, ref: "%[4]s"}]}
  - {name: rotated, use: sig, algs: [ES256], versions: [{backend: aws, ref: "%[5]s"}, {backend: aws, ref: "%[6]s", not_before: 2026-01-01T00:00:00Z}]}
  - {name: aws-second, use: sig, algs: [ES256], versions: [{backend: aws, ref: "%[7]s"}]}
  - {name: gcp-first, use: sig, algs: [ES256], versions: [{backend: gcp, ref: "%[8]s"}]}
  - {name: gcp-second, use: sig, algs: [ES256], versions: [{backend: gcp, ref: "%[9]s"}]}
grants:
  - {peer: {user: %[10]d}, ops: [sign-jws], keys: [aws-first, rotated, aws-second, gcp-first, gcp-second]}
  - {peer: {user: %[10]d}, ops: [reload]}
`

func startMulti(t *testing.T, config string) *multiDaemon {
	t.Helper()
	dir := t.TempDir()
	d := &multiDaemon{t: t, dir: dir}
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(strings.ReplaceAll(config, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}

	var stderr bytes.Buffer
	d.cmd = exec.Command(os.Args[0], "serve", "-c", "c.yaml")
	d.cmd.Env, d.cmd.Dir, d.cmd.Stderr = append(os.Environ(), "SIGNETD_TEST_MAIN=1"), dir, &stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "s"))
	}}}
	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := d.cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the daemon ended with %v:\n%s", err, stderr.String())
		}
	})
	for late := time.Now().Add(20 * time.Second); !serves(filepath.Join(dir, "s")); time.Sleep(20 * time.Millisecond) {
		if exited(d.cmd) || time.Now().After(late) {
			t.Fatal("the daemon does not serve")
		}
	}
	return d
}

// do sends a request and returns its status and answer.
func (d *multiDaemon) do(method, path, body string) (int, []byte) {
	d.t.Helper()
	r, err := http.NewRequest(method, "http://signetd"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := d.client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// signs checks the status of a signature with key.
func (d *multiDaemon) signs(key string, want int) {
	d.t.Helper()
	if status, body := d.do("POST", api.SignJWS.Path, fmt.Sprintf(`{"key":%q,"payload":"e30"}`, key)); status != want {
		d.t.Errorf("sign with %s = %d %s, want %d", key, status, body, want)
	}
}

func (d *multiDaemon) ready() (r api.Ready) {
	d.t.Helper()
	_, body := d.do("GET", api.GetReady.Path, "")
	if err := json.Unmarshal(body, &r); err != nil {
		d.t.Fatalf("%s: %v", body, err)
	}
	return r
}

// TestUnusableKeyCostsItselfAlone starts a daemon while the first key of each cloud cannot
// be used: those after it sign, at start, after a reload, and when the first is back.
func TestUnusableKeyCostsItselfAlone(t *testing.T) {
	aws, gcp := awskmstest.New(t, awskmstest.Config{}), gcpkmstest.New(t)
	aws.Setenv(t)
	var arns [4]string
	for i := range arns {
		arns[i] = aws.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
	}
	first := gcp.CreateVersion(gcp.CreateKey("first", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256))
	second := gcp.CreateVersion(gcp.CreateKey("second", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256))
	aws.SetState(arns[0], awskmstest.Disabled)
	aws.SetState(arns[1], awskmstest.Disabled)
	gcp.SetState(first, kmspb.CryptoKeyVersion_DISABLED)

	d := startMulti(t, fmt.Sprintf(multiConfig, "DIR", aws.URL(), gcp.Endpoint(), arns[0], arns[1], arns[2], arns[3], first, second, os.Getuid()))
	check := func(first int) {
		t.Helper()
		for key, want := range map[string]int{"aws-first": first, "gcp-first": first, "rotated": 200, "aws-second": 200, "gcp-second": 200} {
			d.signs(key, want)
		}
	}
	check(503)
	if r := d.ready(); r.Ready || r.MissingVersions != 3 || r.Backends["aws"] != "ok" || r.Backends["gcp"] != "ok" {
		t.Errorf("ready = %+v, want 3 missing versions in backends that are there", r)
	}
	if status, body := d.do("POST", api.ReloadConfig.Path, ""); status != 200 {
		t.Errorf("reload = %d %s", status, body)
	}
	check(503)

	aws.SetState(arns[0], awskmstest.Enabled)
	gcp.SetState(first, kmspb.CryptoKeyVersion_ENABLED)
	for late := time.Now().Add(30 * time.Second); !d.ready().Ready; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("ready = %+v, with all but one version usable again", d.ready())
		}
	}
	check(200)
	if r := d.ready(); r.MissingVersions != 1 {
		t.Errorf("ready = %+v, want the old version of key rotated missing", r)
	}
}

// TestDeniedKeyCostsItselfAlone has a key that the daemon is not permitted to use for a
// moment.
func TestDeniedKeyCostsItselfAlone(t *testing.T) {
	aws, gcp := awskmstest.New(t, awskmstest.Config{}), gcpkmstest.New(t)
	aws.Setenv(t)
	var arns [4]string
	for i := range arns {
		arns[i] = aws.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
	}
	first := gcp.CreateVersion(gcp.CreateKey("first", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256))
	second := gcp.CreateVersion(gcp.CreateKey("second", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256))
	aws.Inject("Sign", 1, 1, awskmstest.Error("AccessDeniedException", "")) // the first use of the first key, by which it is proven

	d := startMulti(t, fmt.Sprintf(multiConfig, "DIR", aws.URL(), gcp.Endpoint(), arns[0], arns[1], arns[2], arns[3], first, second, os.Getuid()))
	d.signs("aws-second", 200)
	d.signs("rotated", 200)
}
