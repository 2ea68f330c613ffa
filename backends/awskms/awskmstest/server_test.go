package awskmstest_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/mldsa"
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"signetd/backends/awskms/awskmstest"
)

// A client signs requests with the SDK's signer and sends them by itself.
type client struct {
	t           *testing.T
	server      *awskmstest.Server
	credentials aws.Credentials
	region      string
	service     string
	at          time.Time
	before      func(*http.Request) // before it is signed
	after       func(*http.Request) // after
}

func newClient(t *testing.T, s *awskmstest.Server) *client {
	env := s.Env()
	return &client{
		t: t, server: s, region: s.Region(), service: "kms", at: time.Now(),
		credentials: aws.Credentials{AccessKeyID: env["AWS_ACCESS_KEY_ID"], SecretAccessKey: env["AWS_SECRET_ACCESS_KEY"], SessionToken: env["AWS_SESSION_TOKEN"]},
		before:      func(*http.Request) {}, after: func(*http.Request) {},
	}
}

// do sends a request and returns the status, the members of the answer and its body.
func (c *client) do(op, body string) (int, map[string]any, string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.server.URL()+"/", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+op)
	c.before(r)
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(c.t.Context(), c.credentials, r, hex.EncodeToString(sum[:]), c.service, c.region, c.at); err != nil {
		c.t.Fatal(err)
	}
	c.after(r)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(data, &answer); err != nil {
		c.t.Fatalf("%s: %q is not JSON: %v", op, data, err)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/x-amz-json-1.1" {
		c.t.Errorf("Content-Type = %q", got)
	}
	return resp.StatusCode, answer, string(data)
}

// want sends a request that must fail with the given code.
func (c *client) want(op, body, code string) {
	c.t.Helper()
	if status, _, answer := c.do(op, body); status < 400 || !strings.Contains(answer, `"__type":"`+code+`"`) {
		c.t.Errorf("%s %.200s = %d %s, want %s", op, body, status, answer, code)
	}
}

// ok sends a request that must succeed.
func (c *client) ok(op, body string) map[string]any {
	c.t.Helper()
	status, answer, text := c.do(op, body)
	if status != http.StatusOK {
		c.t.Fatalf("%s = %d %s", op, status, text)
	}
	return answer
}

func TestSignature(t *testing.T) {
	setHeader := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}

	rewrite := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			before := r.Header.Get("Authorization")
			after := strings.Replace(before, old, new, 1)
			if after == before {
				t.Fatalf("%q is not in %q", old, before)
			}
			r.Header.Set("Authorization", after)
		}
	}

	const bad, none, incomplete, unknown = "InvalidSignatureException", "MissingAuthenticationTokenException", "IncompleteSignatureException", "UnrecognizedClientException"

	tests := []struct {
		name  string
		token string // that the server wants
		spoil func(c *client)
		code  string
		text  string
	}{
		{name: "right", spoil: func(*client) {}},
		{name: "right, with a token", token: "token", spoil: func(*client) {}},
		{name: "more headers signed", spoil: func(c *client) { c.before = setHeader("X-Amz-User-Agent", " a   b ") }},
		{name: "four minutes ago", spoil: func(c *client) { c.at = c.at.Add(-4 * time.Minute) }},
		{name: "another secret", spoil: func(c *client) { c.credentials.SecretAccessKey += "x" }, code: bad, text: "does not match"},
		{name: "another key id", spoil: func(c *client) { c.credentials.AccessKeyID += "X" }, code: unknown},
		{name: "another region", spoil: func(c *client) { c.region = "us-east-1" }, code: bad, text: "us-east-1"},
		{name: "another service", spoil: func(c *client) { c.service = "s3" }, code: bad, text: "kms"},
		{name: "six minutes ago", spoil: func(c *client) { c.at = c.at.Add(-6 * time.Minute) }, code: bad, text: "Signature expired"},
		{name: "in six minutes", spoil: func(c *client) { c.at = c.at.Add(6 * time.Minute) }, code: bad, text: "not yet current"},
		{name: "a token that is not wanted", spoil: func(c *client) { c.credentials.SessionToken = "token" }, code: unknown},
		{name: "no token", token: "token", spoil: func(c *client) { c.credentials.SessionToken = "" }, code: unknown},
		{name: "another token", token: "token", spoil: func(c *client) { c.credentials.SessionToken = "other" }, code: unknown},
		{name: "a token that is not signed", token: "token", spoil: func(c *client) {
			c.credentials.SessionToken = ""
			c.after = setHeader("X-Amz-Security-Token", "token")
		}, code: bad, text: "x-amz-security-token"},
		{name: "another operation", spoil: func(c *client) { c.after = setHeader("X-Amz-Target", "TrentService.Sign") }, code: bad, text: "does not match"},
		{name: "target not signed", spoil: func(c *client) {
			c.before = func(r *http.Request) { r.Header.Del("X-Amz-Target") }
			c.after = setHeader("X-Amz-Target", "TrentService.DescribeKey")
		}, code: bad, text: "x-amz-target"},
		{name: "type not signed", spoil: func(c *client) {
			c.before = func(r *http.Request) { r.Header.Del("Content-Type") }
			c.after = setHeader("Content-Type", "application/x-amz-json-1.1")
		}, code: bad, text: "content-type"},
		{name: "host not signed", spoil: func(c *client) { c.after = rewrite("host;", "") }, code: bad, text: "host"},
		{name: "another host", spoil: func(c *client) { c.after = func(r *http.Request) { r.Host = "kms.eu-west-1.amazonaws.com" } }, code: bad, text: "does not match"},
		{name: "another body", spoil: func(c *client) {
			c.after = func(r *http.Request) {
				body := `{"KeyId":"alias/b"}`
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			}
		}, code: bad, text: "does not match"},
		{name: "the hash of another body", spoil: func(c *client) {
			c.before = setHeader("X-Amz-Content-Sha256", strings.Repeat("0", 64))
		}, code: bad, text: "x-amz-content-sha256"},
		{name: "another time", spoil: func(c *client) {
			c.after = func(r *http.Request) {
				r.Header.Set("X-Amz-Date", c.at.Add(time.Second).UTC().Format("20060102T150405Z"))
			}
		}, code: bad},
		{name: "the day of another", spoil: func(c *client) { c.after = rewrite(time.Now().UTC().Format("20060102"), "20200101") }, code: incomplete},
		{name: "no time", spoil: func(c *client) { c.after = func(r *http.Request) { r.Header.Del("X-Amz-Date") } }, code: incomplete},
		{name: "no signature at all", spoil: func(c *client) { c.after = func(r *http.Request) { r.Header.Del("Authorization") } }, code: none},
		{name: "two", spoil: func(c *client) {
			c.after = func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }
		}, code: incomplete},
		{name: "type left out", spoil: func(c *client) { c.after = rewrite("content-type;", "") }, code: bad},
		{name: "not sorted", spoil: func(c *client) { c.after = rewrite("x-amz-date;x-amz-target", "x-amz-target;x-amz-date") }, code: incomplete},
		{name: "one twice", spoil: func(c *client) { c.after = rewrite("host;", "host;host;") }, code: incomplete},
		{name: "no scheme", spoil: func(c *client) { c.after = rewrite("AWS4-HMAC-SHA256", "Bearer") }, code: incomplete},
		{name: "no credential", spoil: func(c *client) { c.after = rewrite("Credential=", "Cred=") }, code: incomplete},
		{name: "a scope too short", spoil: func(c *client) { c.after = rewrite("/aws4_request", "") }, code: incomplete},
		{name: "one digit off", spoil: func(c *client) {
			c.after = func(r *http.Request) {
				h := []byte(r.Header.Get("Authorization"))
				h[len(h)-1] = '0' + (h[len(h)-1]-'0'+1)%10%8
				r.Header.Set("Authorization", string(h))
			}
		}, code: bad},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := awskmstest.New(t, awskmstest.Config{SessionToken: tt.token})
			s.SetAlias("alias/a", s.CreateKey("ECC_NIST_P256", "SIGN_VERIFY"))
			c := newClient(t, s)
			tt.spoil(c)
			status, answer, text := c.do("DescribeKey", `{"KeyId":"alias/a"}`)
			if tt.code == "" {
				if status != http.StatusOK {
					t.Errorf("DescribeKey = %d %s", status, text)
				}
				return
			}
			if status == http.StatusOK || answer["__type"] != tt.code || !strings.Contains(text, tt.text) {
				t.Errorf("DescribeKey = %d %s, want %s with %q", status, text, tt.code, tt.text)
			}
		})
	}
}

func b64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// TestRefusals sends what AWS refuses.
func TestRefusals(t *testing.T) {
	s := awskmstest.New(t, awskmstest.Config{})
	c := newClient(t, s)
	key := func(sort ...string) string { return s.CreateKey(sort[0], sort[1]) }
	ec, ed, rs := key("ECC_NIST_P256", "SIGN_VERIFY"), key("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"), key("RSA_2048", "ENCRYPT_DECRYPT")
	mac, agree, sym := key("HMAC_256", "GENERATE_VERIFY_MAC"), key("ECC_NIST_P256", "KEY_AGREEMENT"), key("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
	otherSym := key("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
	pq := key("ML_DSA_44", "SIGN_VERIFY")
	disabled, deleted := key("ECC_NIST_P256", "SIGN_VERIFY"), key("ECC_NIST_P256", "SIGN_VERIFY")
	s.SetState(disabled, awskmstest.Disabled)
	s.SetState(deleted, awskmstest.PendingDeletion)
	body := func(keyID string, members ...string) string {
		return `{"KeyId":"` + keyID + `"` + strings.Join(append([]string{""}, members...), ",") + `}`
	}
	message := func(n int) string { return `"Message":"` + b64(make([]byte, n)) + `"` }
	const shake, external = `"SigningAlgorithm":"ML_DSA_SHAKE_256"`, `"MessageType":"EXTERNAL_MU"`
	const es256, digest, hs256 = `"SigningAlgorithm":"ECDSA_SHA_256"`, `"MessageType":"DIGEST"`, `"MacAlgorithm":"HMAC_SHA_256"`
	blob, _ := c.ok("Encrypt", body(sym, `"Plaintext":"eA=="`))["CiphertextBlob"].(string)

	tests := []struct{ op, body, code string }{
		{"Sign", body(ec, message(32), digest, es256, `"Color":"red"`), "SerializationException"},
		{"Sign", body(ec, message(32), digest, es256, es256), "SerializationException"},
		{"Sign", body(ec, `"Message":"??"`, digest, es256), "SerializationException"},
		{"Sign", `{`, "SerializationException"},
		{"Sign", strings.Repeat(" ", 70_000), "SerializationException"},
		{"Sing", body(ec), "UnknownOperationException"},
		{"Sign", body(""), "ValidationException"},
		{"Sign", body("alias/none", message(32), digest, es256), "NotFoundException"},
		{"Sign", body(strings.Replace(ec, "eu-west-1", "us-east-1", 1), message(32), digest, es256), "NotFoundException"},
		{"Sign", body(ec, message(31), digest, es256), "ValidationException"},
		{"Sign", body(ec, message(33), digest, es256), "ValidationException"},
		{"Sign", body(ec, message(0), es256), "ValidationException"},
		{"Sign", body(ec, message(4097), es256), "ValidationException"},
		{"Sign", body(ec, message(32), `"MessageType":"HEX"`, es256), "ValidationException"},
		{"Sign", body(ec, message(32), digest), "ValidationException"},
		{"Sign", body(ec, message(48), digest, `"SigningAlgorithm":"ECDSA_SHA_384"`), "InvalidKeyUsageException"},
		{"Sign", body(ec, message(32), digest, `"SigningAlgorithm":"RSASSA_PSS_SHA_256"`), "InvalidKeyUsageException"},
		{"Sign", body(rs, message(32), digest, `"SigningAlgorithm":"RSASSA_PSS_SHA_256"`), "InvalidKeyUsageException"},
		{"Sign", body(mac, message(32), digest, es256), "InvalidKeyUsageException"},
		{"Sign", body(agree, message(32), digest, es256), "InvalidKeyUsageException"},
		{"Sign", body(ed, message(64), digest, `"SigningAlgorithm":"ED25519_SHA_512"`), "ValidationException"},
		{"Sign", body(ed, message(64), `"SigningAlgorithm":"ED25519_PH_SHA_512"`), "ValidationException"},
		{"Sign", body(ed, message(32), digest, `"SigningAlgorithm":"ED25519_PH_SHA_512"`), "ValidationException"},
		{"Sign", body(pq, message(64), digest, shake), "ValidationException"},
		{"Sign", body(pq, message(63), external, shake), "ValidationException"},
		{"Sign", body(pq, message(65), external, shake), "ValidationException"},
		{"Sign", body(pq, message(4097), shake), "ValidationException"},
		{"Sign", body(pq, message(64), external, es256), "InvalidKeyUsageException"},
		{"Sign", body(pq, message(64), external, shake, `"DryRun":true`), "DryRunOperationException"},
		{"Sign", body(ec, message(64), external, es256), "ValidationException"},
		{"Sign", body(ec, message(64), external, shake), "InvalidKeyUsageException"},
		{"Verify", body(pq, message(64), shake, `"Signature":"`+b64(make([]byte, 2420))+`"`), "KMSInvalidSignatureException"},
		{"Sign", body(disabled, message(32), digest, es256), "DisabledException"},
		{"Sign", body(deleted, message(32), digest, es256), "KMSInvalidStateException"},
		{"Sign", body(ec, message(32), digest, es256, `"DryRun":true`), "DryRunOperationException"},
		{"Sign", body(ec, message(31), digest, es256, `"DryRun":true`), "ValidationException"},
		{"Verify", body(ec, message(32), digest, es256, `"Signature":"`+b64(make([]byte, 64))+`"`), "KMSInvalidSignatureException"},
		{"GetPublicKey", body(sym), "UnsupportedOperationException"},
		{"GetPublicKey", body(mac), "UnsupportedOperationException"},
		{"GetPublicKey", body(disabled), "DisabledException"},
		{"GenerateMac", body(mac, message(4097), hs256), "ValidationException"},
		{"GenerateMac", body(mac, message(0), hs256), "ValidationException"},
		{"GenerateMac", body(mac, message(1), `"MacAlgorithm":"HMAC_SHA_512"`), "InvalidKeyUsageException"},
		{"GenerateMac", body(ec, message(1), hs256), "InvalidKeyUsageException"},
		{"GenerateMac", body(mac, message(1), hs256, `"DryRun":true`), "DryRunOperationException"},
		{"VerifyMac", body(mac, message(1), hs256, `"Mac":"`+b64(make([]byte, 32))+`"`), "KMSInvalidMacException"},
		{"Encrypt", body(sym, `"Plaintext":""`), "ValidationException"},
		{"Encrypt", body(sym, `"Plaintext":"`+b64(make([]byte, 4097))+`"`), "ValidationException"},
		{"Encrypt", body(rs, `"Plaintext":"eA=="`), "InvalidKeyUsageException"},
		{"Encrypt", body(rs, `"Plaintext":"eA=="`, `"EncryptionAlgorithm":"RSAES_OAEP_SHA_512"`), "ValidationException"},
		{"Encrypt", body(rs, `"Plaintext":"eA=="`, `"EncryptionAlgorithm":"RSAES_OAEP_SHA_1"`, `"EncryptionContext":{"a":"b"}`), "ValidationException"},
		{"Encrypt", body(rs, `"Plaintext":"`+b64(make([]byte, 300))+`"`, `"EncryptionAlgorithm":"RSAES_OAEP_SHA_1"`), "ValidationException"},
		{"Decrypt", body(sym, `"CiphertextBlob":"`+blob+`"`, `"EncryptionContext":{"a":"b"}`), "InvalidCiphertextException"},
		{"Decrypt", body(otherSym, `"CiphertextBlob":"`+blob+`"`), "IncorrectKeyException"},
		{"Decrypt", body(sym, `"CiphertextBlob":"eA=="`), "InvalidCiphertextException"},
		{"Decrypt", body(sym, `"CiphertextBlob":"`+b64(make([]byte, 6145))+`"`), "ValidationException"},
		{"Decrypt", body(sym, `"CiphertextBlob":"`+blob+`"`, `"DryRun":true`), "DryRunOperationException"},
		{"Decrypt", body(rs, `"CiphertextBlob":"`+b64(make([]byte, 256))+`"`, `"EncryptionAlgorithm":"RSAES_OAEP_SHA_256"`), "InvalidCiphertextException"},
		{"DeriveSharedSecret", body(agree, `"KeyAgreementAlgorithm":"ECDH"`, `"PublicKey":"eA=="`), "ValidationException"},
		{"DeriveSharedSecret", body(agree, `"PublicKey":"eA=="`), "ValidationException"},
		{"DeriveSharedSecret", body(ec, `"KeyAgreementAlgorithm":"ECDH"`, `"PublicKey":"eA=="`), "InvalidKeyUsageException"},
	}

	for _, tt := range tests {
		c.want(tt.op, tt.body, tt.code)
	}
	s.Deny("Sign")
	c.want("Sign", body(ec, message(32), digest, es256), "AccessDeniedException")
	c.ok("DescribeKey", body(deleted))
}

// TestSalt verifies that the salt of PSS is as long as the hash.
func TestSalt(t *testing.T) {
	s := awskmstest.New(t, awskmstest.Config{})
	c := newClient(t, s)
	arn := s.CreateKey("RSA_2048", "SIGN_VERIFY")
	sum := sha512.Sum512([]byte("x"))
	answer := c.ok("Sign", `{"KeyId":"`+arn+`","Message":"eA==","SigningAlgorithm":"RSASSA_PSS_SHA_512"}`) // RAW by default
	sig, err := base64.StdEncoding.DecodeString(answer["Signature"].(string))
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := s.Public(arn).(*rsa.PublicKey)
	if err := rsa.VerifyPSS(pub, crypto.SHA512, sum[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}); err != nil {
		t.Error(err)
	}
}

// TestHashEdDSA signs with the DIGEST form of Ed25519, whose result is not a signature of
// the message.
func TestHashEdDSA(t *testing.T) {
	s := awskmstest.New(t, awskmstest.Config{})
	c := newClient(t, s)
	arn := s.CreateKey("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
	message := bytes.Repeat([]byte("m"), 64)
	sign := func(algorithm, typ string) string {
		answer := c.ok("Sign", `{"KeyId":"`+arn+`","Message":"`+b64(message)+`","MessageType":"`+typ+`","SigningAlgorithm":"`+algorithm+`"}`)
		return answer["Signature"].(string)
	}

	for _, tt := range []struct {
		algorithm, typ string
		pure           bool
	}{{"ED25519_SHA_512", "RAW", true}, {"ED25519_PH_SHA_512", "DIGEST", false}} {
		sig := sign(tt.algorithm, tt.typ)
		raw, err := base64.StdEncoding.DecodeString(sig)
		pub, _ := s.Public(arn).(ed25519.PublicKey)
		if err != nil || ed25519.Verify(pub, message, raw) != tt.pure {
			t.Errorf("%s: the signature is one of the message: %t, %v", tt.algorithm, !tt.pure, err)
		}
		c.ok("Verify", `{"KeyId":"`+arn+`","Message":"`+b64(message)+`","MessageType":"`+tt.typ+`","SigningAlgorithm":"`+tt.algorithm+`","Signature":"`+sig+`"}`)
	}
}

// TestMu signs the mu of a message, whose result is a signature of the message.
func TestMu(t *testing.T) {
	s := awskmstest.New(t, awskmstest.Config{})
	c := newClient(t, s)

	for _, spec := range []string{"ML_DSA_44", "ML_DSA_65", "ML_DSA_87"} {
		arn := s.CreateKey(spec, "SIGN_VERIFY")
		pub, _ := s.Public(arn).(*mldsa.PublicKey)
		message := []byte("message")
		tr := sha3.SumSHAKE256(pub.Bytes(), 64)
		mu := sha3.SumSHAKE256(slices.Concat(tr, []byte{0, 0}, message), 64)
		for typ, sent := range map[string][]byte{"RAW": message, "EXTERNAL_MU": mu} {
			answer := c.ok("Sign", `{"KeyId":"`+arn+`","Message":"`+b64(sent)+`","MessageType":"`+typ+`","SigningAlgorithm":"ML_DSA_SHAKE_256"}`)
			sig, _ := answer["Signature"].(string)
			raw, err := base64.StdEncoding.DecodeString(sig)
			if err != nil || mldsa.Verify(pub, message, raw, nil) != nil {
				t.Errorf("%s, %s: the signature is not one of the message", spec, typ)
			}
			c.ok("Verify", `{"KeyId":"`+arn+`","Message":"`+b64(message)+`","SigningAlgorithm":"ML_DSA_SHAKE_256","Signature":"`+sig+`"}`)
		}
	}
}

// TestQuota goes above the quota, which counts only the operations with keys.
func TestQuota(t *testing.T) {
	s := awskmstest.New(t, awskmstest.Config{Quota: 10})
	c := newClient(t, s)
	arn := s.CreateKey("HMAC_256", "GENERATE_VERIFY_MAC")
	done, throttled := 0, 0

	for range 20 {
		status, answer, _ := c.do("GenerateMac", `{"KeyId":"`+arn+`","Message":"eA==","MacAlgorithm":"HMAC_SHA_256"}`)
		switch {
		case status == http.StatusOK:
			done++
		case status == http.StatusBadRequest && answer["__type"] == "ThrottlingException":
			throttled++
		default:
			t.Errorf("GenerateMac = %d %v", status, answer)
		}
		c.ok("DescribeKey", `{"KeyId":"`+arn+`"}`)
	}

	if done == 0 || throttled == 0 {
		t.Errorf("%d done and %d throttled, want some of both", done, throttled)
	}
	if calls := s.Calls(); calls["GenerateMac"] != 20 || calls["DescribeKey"] != 20 {
		t.Errorf("Calls() = %v", calls)
	}
}

// TestInject injects several faults, which each happen to their own calls.
func TestInject(t *testing.T) {
	s := awskmstest.New(t, awskmstest.Config{})
	c := newClient(t, s)
	s.Inject("DescribeKey", 2, 1, awskmstest.Error("KMSInternalException", "second"))
	s.Inject("", 3, 2, awskmstest.Error("KMSInternalException", "any"))
	s.Inject("Sign", 1, -1, awskmstest.Throttling())

	for i, want := range []string{"NotFoundException", "second", "NotFoundException", "any", "any", "NotFoundException"} {
		if _, _, text := c.do("DescribeKey", `{"KeyId":"alias/none"}`); !strings.Contains(text, want) {
			t.Errorf("call %d = %s, want %q", i+1, text, want)
		}
	}

	for range 3 {
		c.want("Sign", `{}`, "ThrottlingException")
	}
	s.Heal()
	c.want("Sign", `{}`, "ValidationException")
}

// TestKeyGeneration creates keys that AWS does not have.
func TestKeyGeneration(t *testing.T) {
	s := awskmstest.New(t, awskmstest.Config{})
	for _, sort := range [][2]string{{"RSA_1024", "SIGN_VERIFY"}, {"ECC_SECG_P256K1", "KEY_AGREEMENT"}, {"HMAC_256", "SIGN_VERIFY"}, {"RSA_2048", "SIGN"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("CreateKey(%q, %q) made a key", sort[0], sort[1])
				}
			}()
			s.CreateKey(sort[0], sort[1])
		}()
	}
}

// TestBlobs encrypts one plaintext twice, and decrypts without naming the key.
func TestBlobs(t *testing.T) {
	s := awskmstest.New(t, awskmstest.Config{})
	c := newClient(t, s)
	arn := s.CreateKey("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
	secret := make([]byte, 32)
	rand.Read(secret)
	encrypt := func() string {
		return c.ok("Encrypt", `{"KeyId":"`+arn+`","Plaintext":"`+b64(secret)+`","EncryptionContext":{"a":"1","b":"2"}}`)["CiphertextBlob"].(string)
	}
	one, two := encrypt(), encrypt()
	if one == two {
		t.Error("two blobs are the same")
	}
	answer := c.ok("Decrypt", `{"CiphertextBlob":"`+one+`","EncryptionContext":{"b":"2","a":"1"}}`)
	if answer["Plaintext"] != b64(secret) || answer["KeyId"] != arn || answer["EncryptionAlgorithm"] != "SYMMETRIC_DEFAULT" {
		t.Errorf("Decrypt = %v", answer)
	}
}
