package examples_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"signetd/backends/awskms/awskmstest"
)

const (
	awsExample = "awskms.yaml"
	awsPolicy  = "awskms-policy.json"
)

// TestAWSExampleChecks holds that an operator who has these keys in AWS KMS has to change
// ids and accounts, and nothing else, for a config that works with the permissions of the
// policy beside it.
func TestAWSExampleChecks(t *testing.T) {
	here := awskmstest.New(t, awskmstest.Config{})
	there := awskmstest.New(t, awskmstest.Config{Region: "us-east-1"})
	oidc := here.CreateKey("ECC_NIST_P256", "SIGN_VERIFY")
	here.SetAlias("alias/inbox", here.CreateKey("RSA_2048", "ENCRYPT_DECRYPT"))
	there.SetAlias("alias/oidc-2027-02", there.CreateKey("ECC_NIST_P256", "SIGN_VERIFY"))
	here.Setenv(t)

	dir := t.TempDir()
	text := read(t, awsExample)
	text = regexp.MustCompile(`(?m)^ +assume_role:.*\n( {8}.*\n)+`).ReplaceAllString(text, "") // this test has no STS

	out := checkAdapted(t, dir, text, []replacement{
		{"/run/signetd/signetd.sock", filepath.Join(dir, "signetd.sock")},
		{"/var/log/signetd/audit.jsonl", filepath.Join(dir, "audit.jsonl")},
		{", group: signet}", "}"},
		{"region: eu-west-1 #", "region: eu-west-1\n      endpoint: " + here.URL() + " #"},
		{"https://vpce-0123456789abcdef0-abcdefgh.kms.us-east-1.vpce.amazonaws.com", there.URL()},
		{"profile: signetd #", "#"},
		{"arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", oidc},
		{"{user: issuer}", "{user: " + strconv.Itoa(os.Getuid()) + "}"},
		{"{group: mailroom}", "{group: " + strconv.Itoa(os.Getgid()) + "}"},
	})

	for _, want := range []string{
		`(?m)^key oidc: kid \S{43} in aws: \[ES256\]: ok: ` + regexp.QuoteMeta(oidc) + `, ECC_NIST_P256 for SIGN_VERIFY$`,
		`(?m)^key oidc: kid \S{43} in aws-us: \[ES256\]: ok: arn:\S+, ECC_NIST_P256 for SIGN_VERIFY, resolved from alias/oidc-2027-02$`,
		`(?m)^key inbox: kid \S{43} in aws: \[RSA-OAEP-256\]: ok: arn:\S+, RSA_2048 for ENCRYPT_DECRYPT, resolved from arn:\S+:alias/inbox$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("signetd check printed\n%s\nwant a line %s", out, want)
		}
	}
	checkPolicy(t, here)
}

// checkPolicy checks that the policy allows what was called, and nothing else.
func checkPolicy(t *testing.T, server *awskmstest.Server) {
	t.Helper()
	var policy struct{ Statement []struct{ Action []string } }
	if err := json.Unmarshal([]byte(read(t, awsPolicy)), &policy); err != nil {
		t.Fatal(err)
	}
	var allowed, used []string
	for _, s := range policy.Statement {
		allowed = append(allowed, s.Action...)
	}
	for op := range server.Calls() {
		used = append(used, "kms:"+op)
	}

	slices.Sort(allowed)
	slices.Sort(used)
	if !slices.Equal(allowed, used) {
		t.Errorf("%s allows %v, and the example needs %v", awsPolicy, allowed, used)
	}
}
