package awskmstest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"signetd/backends/awskms/awskmstest"
)

// The SDK's module has, for the tests of the SDK, what a request of each operation
// and each answer look like. They are read from the module cache.

// operations are the operations of the server.
var operations = []string{"DescribeKey", "GetPublicKey", "Sign", "Verify", "GenerateMac", "VerifyMac", "Encrypt", "Decrypt", "DeriveSharedSecret"}

func sdk(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/kms").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// snapshot returns the first line, the headers and the body of a snapshot.
func snapshot(t *testing.T, path string) (first string, header http.Header, body string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := strings.Cut(string(data), "\n\n{")
	if !ok {
		t.Fatalf("%s: no body", path)
	}
	lines := strings.Split(head, "\n")

	header = http.Header{}
	for _, line := range lines[1:] {
		if name, value, ok := strings.Cut(line, ": "); ok {
			header.Add(name, value)
		}
	}
	return lines[0], header, "{" + body
}

// TestRequestSnapshots sends each of the SDK's requests: the server must understand
// all of it, and find no such key.
func TestRequestSnapshots(t *testing.T) {
	dir := sdk(t)
	for _, op := range operations {
		first, header, body := snapshot(t, filepath.Join(dir, "request_snapshot", op+".request.snap"))
		if first != "POST /" || header.Get("X-Amz-Target") != "TrentService."+op || header.Get("Content-Type") != "application/x-amz-json-1.1" {
			t.Errorf("%s: the SDK sends %q with %v", op, first, header)
		}
		c := newClient(t, awskmstest.New(t, awskmstest.Config{}))
		c.want(op, body, "NotFoundException")
		c.want(op, strings.Replace(body, "{", `{"NotAMember":1,`, 1), "SerializationException")
	}
}

// TestErrorSnapshots makes the server answer with every error of the SDK. Status and
// body must be the same.
func TestErrorSnapshots(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(sdk(t), "response_snapshot", "*.error.snap"))
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d snapshots of errors, %v", len(paths), err)
	}
	s := awskmstest.New(t, awskmstest.Config{})
	c := newClient(t, s)

	for _, path := range paths {
		first, _, want := snapshot(t, path)
		code := strings.TrimSuffix(filepath.Base(path), ".error.snap")
		s.Heal()
		s.Inject("Sign", 1, 1, awskmstest.Error(code, "__Message__"))
		status, _, body := c.do("Sign", "{}")
		if strconv.Itoa(status) != first || body != want {
			t.Errorf("%s: %d %s, want %s %s", code, status, body, first, want)
		}
	}
}

// TestResponseSnapshots does each operation: its answer must have members of the
// SDK's, each of the same JSON type, and among them those that the SDK's callers live
// on.
func TestResponseSnapshots(t *testing.T) {
	s := awskmstest.New(t, awskmstest.Config{})
	c := newClient(t, s)
	answers := answersOf(c, s)
	needed := map[string]string{
		"DescribeKey": "KeyMetadata", "GetPublicKey": "PublicKey", "Sign": "Signature", "Verify": "SignatureValid", "GenerateMac": "Mac",
		"VerifyMac": "MacValid", "Encrypt": "CiphertextBlob", "Decrypt": "Plaintext", "DeriveSharedSecret": "SharedSecret",
	}
	dir := sdk(t)

	for _, op := range operations {
		first, _, body := snapshot(t, filepath.Join(dir, "response_snapshot", op+".response.snap"))
		var want map[string]any
		if err := json.Unmarshal([]byte(body), &want); err != nil || first != "200" {
			t.Fatalf("%s: %s, %v", op, first, err)
		}
		compare(t, op, answers[op], want)
		if _, ok := answers[op][needed[op]]; !ok {
			t.Errorf("%s: the answer has no %s", op, needed[op])
		}
		if _, ok := want["KeyId"]; ok && answers[op]["KeyId"] == nil {
			t.Errorf("%s: the answer has no KeyId", op)
		}
	}
}

// answersOf calls every operation once.
func answersOf(c *client, s *awskmstest.Server) map[string]map[string]any {
	key := func(sort ...string) string { return `{"KeyId":"` + s.CreateKey(sort[0], sort[1]) + `"` }
	ec, mac, sym := key("ECC_NIST_P256", "SIGN_VERIFY"), key("HMAC_256", "GENERATE_VERIFY_MAC"), key("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
	agree, peer := key("ECC_NIST_P256", "KEY_AGREEMENT"), key("ECC_NIST_P256", "KEY_AGREEMENT")
	const es256, hs256 = `,"Message":"eA==","SigningAlgorithm":"ECDSA_SHA_256"`, `,"Message":"eA==","MacAlgorithm":"HMAC_SHA_256"`
	answers := map[string]map[string]any{}
	do := func(op, body string) { answers[op] = c.ok(op, body+"}") }
	do("DescribeKey", ec)
	do("GetPublicKey", peer)
	do("Sign", ec+es256)
	do("Verify", ec+es256+fmt.Sprintf(`,"Signature":%q`, answers["Sign"]["Signature"]))
	do("GenerateMac", mac+hs256)
	do("VerifyMac", mac+hs256+fmt.Sprintf(`,"Mac":%q`, answers["GenerateMac"]["Mac"]))
	do("Encrypt", sym+`,"Plaintext":"eA=="`)
	do("Decrypt", sym+fmt.Sprintf(`,"CiphertextBlob":%q`, answers["Encrypt"]["CiphertextBlob"]))
	do("DeriveSharedSecret", agree+fmt.Sprintf(`,"KeyAgreementAlgorithm":"ECDH","PublicKey":%q`, answers["GetPublicKey"]["PublicKey"]))
	return answers
}

// compare checks that each member of got is in want, with a value of the same JSON type.
func compare(t *testing.T, at string, got, want map[string]any) {
	t.Helper()
	for name, value := range got {
		model, ok := want[name]
		switch {
		case !ok:
			t.Errorf("%s.%s: the SDK knows no such member", at, name)
		case fmt.Sprintf("%T", value) != fmt.Sprintf("%T", model):
			t.Errorf("%s.%s is a %T, and the SDK's a %T", at, name, value, model)
		}
		if inner, ok := value.(map[string]any); ok {
			model, _ := model.(map[string]any)
			compare(t, at+"."+name, inner, model)
		}
	}
}
