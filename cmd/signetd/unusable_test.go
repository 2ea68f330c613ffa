//go:build !noaws && !nogcp

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/awskms/awskmstest"
	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/daemon/api"
)

// A multiDaemon is a daemon with keys in fakes of AWS KMS and Google Cloud KMS.
type multiDaemon struct{ *process }

// A test makes the first key of each backend unusable. Key rotated has two versions in
// AWS: an old one, which is unusable too, and a new one.
const multiConfig = `
socket: {path: "DIR/s"}
audit: {path: "DIR/audit.jsonl", sync: never}
backends:
  - {name: aws, awskms: {region: eu-west-1, endpoint: "%[1]s", attempt_timeout: 500ms}}
  - {name: gcp, gcpkms: {endpoint: "%[2]s", plaintext: true, attempt_timeout: 500ms}}
keys:
  - {name: aws-first, use: sig, algs: [ES256], versions: [{backend: aws, ref: "%[3]s"}]}
  - {name: rotated, use: sig, algs: [ES256], versions: [{backend: aws, ref: "%[4]s"}, {backend: aws, ref: "%[5]s", not_before: 2026-01-01T00:00:00Z}]}
  - {name: aws-second, use: sig, algs: [ES256], versions: [{backend: aws, ref: "%[6]s"}]}
  - {name: gcp-first, use: sig, algs: [ES256], versions: [{backend: gcp, ref: "%[7]s"}]}
  - {name: gcp-second, use: sig, algs: [ES256], versions: [{backend: gcp, ref: "%[8]s"}]}
grants:
  - {peer: {user: %[9]d}, ops: [sign-jws], keys: [aws-first, rotated, aws-second, gcp-first, gcp-second]}
  - {peer: {user: %[9]d}, ops: [reload]}
`

// signs checks the status of a signature with key.
func (d *multiDaemon) signs(key string, want int) {
	d.t.Helper()
	if status, _, body, err := d.do("POST", api.SignJWS.Path, fmt.Sprintf(`{"key":%q,"payload":"e30"}`, key)); err != nil || status != want {
		d.t.Errorf("sign with %s = %d %s, %v; want %d", key, status, body, err, want)
	}
}

func (d *multiDaemon) ready() (r api.Ready) {
	d.t.Helper()
	_, _, body, err := d.do("GET", api.GetReady.Path, "")
	if err != nil {
		d.t.Fatal(err)
	}
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

	d := &multiDaemon{startServe(t, fmt.Sprintf(multiConfig, aws.URL(), gcp.Endpoint(), arns[0], arns[1], arns[2], arns[3], first, second, os.Getuid()))}
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
	if status, _, body, err := d.do("POST", api.ReloadConfig.Path, ""); err != nil || status != 200 {
		t.Errorf("reload = %d %s, %v", status, body, err)
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

// TestDeniedKeyCostsItselfAlone: at the start the daemon lacks the permission to use the
// first key for a moment.
func TestDeniedKeyCostsItselfAlone(t *testing.T) {
	aws, gcp := awskmstest.New(t, awskmstest.Config{}), gcpkmstest.New(t)
	aws.Setenv(t)
	var arns [4]string
	for i := range arns {
		arns[i] = aws.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
	}
	first := gcp.CreateVersion(gcp.CreateKey("first", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256))
	second := gcp.CreateVersion(gcp.CreateKey("second", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256))
	aws.Inject("Sign", 1, 1, awskmstest.Error("AccessDeniedException", "")) // the first use of the first key: the one at start

	d := &multiDaemon{startServe(t, fmt.Sprintf(multiConfig, aws.URL(), gcp.Endpoint(), arns[0], arns[1], arns[2], arns[3], first, second, os.Getuid()))}
	d.signs("aws-second", 200)
	d.signs("rotated", 200)
}
