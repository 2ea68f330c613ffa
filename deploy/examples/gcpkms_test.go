package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/gcpkms/gcpkmstest"
)

const gcpExample = "gcpkms.yaml"

// TestGCPExampleChecks holds that an operator who has these keys in Google Cloud KMS has to
// change names, and nothing else, for a config that works with the permissions that the
// manual names.
func TestGCPExampleChecks(t *testing.T) {
	kms := gcpkmstest.New(t)
	oidc := kms.CreateKey("oidc", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
	inbox := kms.CreateKey("inbox", kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_2048_SHA256)
	for _, key := range []string{oidc, oidc, inbox, inbox} {
		kms.CreateVersion(key)
	}

	var permissions []string
	for _, p := range regexp.MustCompile("`(cloudkms\\.[a-zA-Z.]+)`").FindAllStringSubmatch(read(t, "../../docs/operations.md"), -1) {
		permissions = append(permissions, p[1])
	}
	if len(permissions) == 0 {
		t.Fatal("docs/operations.md names no permission of Google's")
	}
	kms.SetPermissions(permissions...)

	dir := t.TempDir()
	text := read(t, gcpExample)

	out := checkAdapted(t, dir, text, []replacement{
		{"/run/signetd/signetd.sock", filepath.Join(dir, "signetd.sock")},
		{"/var/log/signetd/audit.jsonl", filepath.Join(dir, "audit.jsonl")},
		{", group: signet}", "}"},
		{"cloudkms.googleapis.com:443 #", kms.Endpoint() + " #"},
		{"      credentials_file: /etc/signetd/google.json", "     "},
		{"plaintext: false", "plaintext: true"},
		{"projects/example/locations/europe-west1/keyRings/signetd", gcpkmstest.KeyRing},
		{"{user: issuer}", "{user: " + strconv.Itoa(os.Getuid()) + "}"},
		{"{group: mailroom}", "{group: " + strconv.Itoa(os.Getgid()) + "}"},
	})

	for _, want := range []string{
		`key oidc: kid \S{43} in google: \[ES256\]: ok: ` + oidc + `/cryptoKeyVersions/2, EC_SIGN_P256_SHA256, protection level SOFTWARE; the credentials have cloudkms\.cryptoKeyVersions\.useToSign\n`,
		`key oidc: kid \S{43} in google: \[ES256\]: ok: ` + oidc + `/cryptoKeyVersions/1, `,
		`key inbox: kid \S{43} in google: \[RSA-OAEP-256\]: ok: ` + inbox + `/cryptoKeyVersions/1, RSA_DECRYPT_OAEP_2048_SHA256, .*cloudkms\.cryptoKeyVersions\.useToDecrypt\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("signetd check printed\n%s\nwant a line %s", out, want)
		}
	}
}
