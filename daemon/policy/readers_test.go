package policy_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"signetd/daemon/policy"
	"signetd/signer"
)

// nasty are claims that readers understand differently.
var nasty = []string{
	`{"aud":"api","is\u0073":"https://id.example"}`, `{"aud":"api","is\u0073":"x","iss":"https://id.example"}`,
	`{"aud":"api","i\u017fs":"x"}`, `{"aud":"api","\u212aid":1,"kid":2}`, `{"aud":"api","ISS":"https://id.example"}`,
	`{"aud":"api","x":{"Iss":1,"iss":2}}`, `{"aud":"api","x":[{"a":1,"\u0061":2}]}`,
	`{"aud":"api","exp":1e3}`, `{"aud":"api","exp":1.0}`, `{"aud":"api","exp":18e8}`, `{"aud":"api","exp":1800000010.0}`,
	`{"aud":"api","exp":-0}`, `{"aud":"api","nbf":-0}`, `{"aud":"api","exp":1e400}`, `{"aud":"api","exp":9007199254740993}`,
	`{"aud":"api","x":9007199254740993}`, `{"aud":"api","x":-9007199254740993}`, `{"aud":"api","x":1e400}`, `{"aud":"api","x":1e-400}`,
	`{"aud":"api","x":[-0,-0.0,0e99,1E5,1e+5,5e-324,2.2250738585072011e-308,1.7976931348623157e308,1.7976931348623159e308]}`,
	`{"aud":"api","x":0.30000000000000004}`, `{"aud":"api","x":123456789012345678901234567890}`, `{"aud":"api","x":9007199254740992.0}`,
	`{"aud":"api","x":"\ud800"}`, `{"aud":"api","x":"\udfff\ud800"}`, `{"aud":"api","\ud800":1}`, `{"aud":"api","x":"\ud83d\ude00"}`,
	`{"aud":"api","sub":"a\u0000b"}`, `{"aud":"api","iss\u0000":"x"}`, "{\"aud\":\"api\",\"x\":\"\x00\"}", `{"aud":"api","x":"\\u0000"}`,
	"\xef\xbb\xbf" + `{"aud":"api"}`, "{\"aud\":\"api\",\"x\":\"\xff\"}", "{\"aud\":\"api\",\"\xc0\xaf\":1}", "{\"aud\":\"api\",\"x\":\"\xed\xa0\x80\"}",
	`{"aud":"api","__proto__":{"iss":"x"}}`, `{"aud":"api","x":{"__proto__":null}}`, `{"aud":"api","constructor":{"prototype":{}},"toString":1,"hasOwnProperty":0}`,
	`{"aud":"api","x":` + strings.Repeat(`[`, 63) + strings.Repeat(`]`, 63) + `}`, `{"aud":"api","x":` + strings.Repeat(`{"x":`, 99) + `1` + strings.Repeat(`}`, 100),
	`{"aud":"api","` + strings.Repeat("n", 9000) + `":1}`, `{"aud":"api","":{"":[""]}}`, `{"aud":"api","1":1,"0":0,"-1":2}`,
	`{"aud":["api","https://api.example.com/v1"],"role":["reader"],"level":5,"sub":"\u2028\u2029\ufeff"}`,
	`{"aud":"api","x":"\"],\"iss\":\"x","y":"}","z":["]",","]}`, `{"aud":"api","toJSON":1,"then":2}`, "{\"aud\":\"api\",\"x\":\"\u007f\u0085\"}",
	`{"aud":"api"}` + "\x00", `{"aud":"api"} // x`, `{"aud":"api",}`, `{"aud":"api","x":.5}`, `{"aud":"api","x":0x10}`, `{"aud":"api","x":1_000}`, `{"aud":"api","x":Infinity}`,
	`{"aud":"api","PASS_WORD":1}`, `{"aud":"api","x":{"ssn":1}}`, `{"aud":"api","p\u0061ssword":1}`, `{"aud":"api","x":[[{"Credit-Card":1}]]}`,
}

// readerRules allow much, so that a fuzzer gets many claims signed.
var readerRules = must((&policy.JWT{
	Issuer: "https://id.example", Audiences: []string{"api", "https://api.example.com/*"}, MaxTTL: 15 * time.Minute,
	Forbidden: []string{"act"}, MaxDepth: 64, Values: map[string]policy.Value{
		"role": {OneOf: []any{"reader", int64(1)}}, "level": {Type: "integer", Min: number(1), Max: number(5)},
	},
}).Compile())

// FuzzApply: every reader reads the same in a signed payload: the policy, encoding/json
// (which ignores the case of names), go-jose, and JSON.parse. And what they read keeps the
// rules.
func FuzzApply(f *testing.F) {
	_, cases := readTable(f)
	for _, c := range cases {
		f.Add(expand(c.Claims), c.TTL, c.Sealed)
	}
	for _, s := range nasty {
		f.Add([]byte(s), int64(0), true)
		f.Add([]byte(s), int64(60), false)
	}
	node := startNode(f)
	sign, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: bytes.Repeat([]byte{1}, 32)}, nil)
	if err != nil {
		f.Fatal(err)
	}

	f.Fuzz(func(t *testing.T, claims []byte, ttl int64, sealed bool) {
		q := policy.ClaimsRequest{Claims: claims, TTL: time.Duration(ttl%10_000) * time.Second, Sealed: sealed}
		c, err := readerRules.Apply(q, now)
		if err != nil {
			if code := signer.Code(err); code != "invalid" && code != "denied" {
				t.Fatalf("Apply(%q) = %v with code %s", claims, err, code)
			}
			return
		}

		read, err := policy.Read(c.Payload)
		if err != nil {
			t.Fatalf("the policy does not read what it signed, %q: %v", c.Payload, err)
		}
		checkRead(t, read, c)
		checkAdded(t, claims, c.Payload)
		checkGo(t, read, c.Payload, sign)
		if node != nil {
			node.check(t, read, c.Payload, sealed)
		}
	})
}

// checkRead checks that what the policy reads in a payload keeps the rules.
func checkRead(t *testing.T, r *policy.Reading, c *policy.Claims) {
	t.Helper()
	known := func(aud string) bool {
		return aud == "api" || strings.HasPrefix(aud, "https://api.example.com/") && !strings.Contains(aud, "/../")
	}
	inTime := r.Exp > now.Unix() && r.Exp-r.Iat <= 900 && r.Nbf < r.Exp && time.Unix(r.Iat, 0).Sub(now).Abs() <= time.Minute
	if r.Iss != "https://id.example" || len(r.Aud) == 0 || !inTime || r.JTI != c.JTI || r.JTI == "" || r.Exp != c.Exp.Unix() ||
		slices.ContainsFunc(r.Aud, func(a string) bool { return !known(a) }) {
		t.Fatalf("signed %s, which breaks the rules: %+v", c.Payload, r)
	}
}

// checkAdded checks that only missing claims were added, and nothing was changed.
func checkAdded(t *testing.T, asked, payload []byte) {
	t.Helper()
	var before, after map[string]any
	if err := json.Unmarshal(asked, &before); err != nil {
		t.Fatalf("encoding/json does not read what was asked for, %q: %v", asked, err)
	}
	if err := json.Unmarshal(payload, &after); err != nil {
		t.Fatalf("encoding/json does not read what was signed, %q: %v", payload, err)
	}

	for name, v := range after {
		if _, ok := before[name]; !ok && slices.Contains([]string{"iss", "iat", "nbf", "exp", "jti"}, name) {
			before[name] = v
		}
	}
	if !reflect.DeepEqual(before, after) { // package cmp is far too slow on deep values
		t.Fatalf("asked for %q, signed %q", asked, payload)
	}
}

// checkGo checks that encoding/json and go-jose read the same as the policy.
func checkGo(t *testing.T, r *policy.Reading, payload []byte, sign jose.Signer) {
	t.Helper()
	var lax, strict jwt.Claims
	if err := json.Unmarshal(payload, &lax); err != nil {
		t.Fatalf("encoding/json does not read %q: %v", payload, err)
	}

	signed, err := sign.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.ParseSigned(compact, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		t.Fatalf("go-jose does not read %q: %v", compact, err)
	}
	if err := token.UnsafeClaimsWithoutVerification(&strict); err != nil {
		t.Fatalf("go-jose does not read %q: %v", payload, err)
	}

	date := func(n int64) *jwt.NumericDate { d := jwt.NumericDate(n); return &d }
	want := jwt.Claims{Issuer: r.Iss, Subject: r.Sub, Audience: r.Aud, Expiry: date(r.Exp), NotBefore: date(r.Nbf), IssuedAt: date(r.Iat), ID: r.JTI}
	for name, got := range map[string]jwt.Claims{"encoding/json": lax, "go-jose": strict} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("the policy and %s read %q in two ways: %s", name, payload, diff)
		}
	}
}

// A nodeReader is a process that runs testdata/reader.mjs.
type nodeReader struct {
	mu  sync.Mutex // held from the write of a payload until its answer has been read
	in  io.Writer
	out *bufio.Reader
}

// startNode starts a reader that lives as long as the test, or returns nil on a
// machine that has no node.
func startNode(f testing.TB) *nodeReader {
	f.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("REQUIRE_TOOLS") == "1" {
			f.Fatal(err)
		}
		f.Logf("%v: only readers in Go are asked; set REQUIRE_TOOLS=1 to fail instead", err)
		return nil
	}

	cmd := exec.Command(path, "testdata/reader.mjs")
	in, err := cmd.StdinPipe()
	if err != nil {
		f.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}

	f.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			f.Errorf("node: %v", err)
		}
	})
	return &nodeReader{in: in, out: bufio.NewReader(out)}
}

// A nodeAnswer is a line that testdata/reader.mjs prints.
type nodeAnswer struct {
	Error  string
	Values [][3]string
	Claims struct {
		Iss, Sub, Jti string
		Aud           any
		Exp, Nbf, Iat int64
	}
}

func (n *nodeReader) read(t *testing.T, payload []byte) *nodeAnswer {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()

	if _, err := io.WriteString(n.in, base64.StdEncoding.EncodeToString(payload)+"\n"); err != nil {
		t.Fatal(err)
	}
	line, err := n.out.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}

	a := &nodeAnswer{}
	if err := json.Unmarshal(line, a); err != nil {
		t.Fatalf("node says %q: %v", line, err)
	}
	return a
}

// check checks that Node reads the same as the policy: the registered claims, each value
// that the policy looks at, and the number of names.
func (n *nodeReader) check(t *testing.T, r *policy.Reading, payload []byte, sealed bool) {
	t.Helper()
	a := n.read(t, payload)
	if a.Error != "" {
		t.Fatalf("JSON.parse does not read %q: %s", payload, a.Error)
	}

	var aud []string
	switch v := a.Claims.Aud.(type) {
	case string:
		aud = []string{v}
	case []any:
		for _, s := range v {
			aud = append(aud, s.(string))
		}
	}
	c := a.Claims
	if c.Iss != r.Iss || c.Sub != r.Sub || c.Jti != r.JTI || c.Exp != r.Exp || c.Nbf != r.Nbf || c.Iat != r.Iat || !slices.Equal(aud, r.Aud) {
		t.Fatalf("the policy reads %+v in %q, and JSON.parse %+v", r, payload, c)
	}

	byPath, names := map[string][3]string{}, 0
	for _, v := range a.Values {
		byPath[v[0]] = v
		if v[1] == "object" {
			size, _ := strconv.Atoi(v[2]) // reader.mjs prints a number here
			names += size
		}
		checkPath(t, v, payload, sealed)
	}
	if names != r.Names {
		t.Fatalf("the policy saw %d names in %q, and JSON.parse %d", r.Names, payload, names)
	}

	for _, want := range r.Values {
		got := byPath[want[0]]
		if want[1] == "object" && want[0] != "" {
			want[2] = got[2] // the policy does not count the members of nested objects
		}
		if got != want {
			t.Fatalf("the policy reads %q in %q, and JSON.parse %q", want, payload, got)
		}
	}
}

// checkPath checks that a value that Node read keeps the rules, by a second
// implementation of them.
func checkPath(t *testing.T, v [3]string, payload []byte, sealed bool) {
	t.Helper()
	parts := strings.Split(v[0], "/")
	name, err := base64.RawURLEncoding.DecodeString(parts[len(parts)-1])
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer("_", "", "-", "", ".", "", " ", "").Replace(strings.ToLower(string(name)))
	secrets := []string{"password", "ssn", "cvv", "creditcard", "clientsecret"}
	if plain == "act" || !sealed && slices.Contains(secrets, plain) {
		t.Fatalf("signed %q, in which JSON.parse reads a member %q", payload, name)
	}

	if len(parts) == 2 && string(name) == "level" {
		bits, err := strconv.ParseUint(v[2], 16, 64)
		if n := math.Float64frombits(bits); v[1] != "number" || err != nil || n < 1 || n > 5 || n != math.Trunc(n) {
			t.Fatalf("signed %q, in which JSON.parse reads a level of %s %v", payload, v[1], n)
		}
	}
}

// TestReadersSeeTheSeeds: of the nasty seeds of FuzzApply some are signed and most are not.
func TestReadersSeeTheSeeds(t *testing.T) {
	signed := 0
	for _, s := range nasty {
		if _, err := readerRules.Apply(policy.ClaimsRequest{Claims: []byte(s), Sealed: true}, now); err == nil {
			signed++
		}
	}
	if signed < 10 || signed > len(nasty)/2 {
		t.Errorf("%d of %d nasty seeds are signed", signed, len(nasty))
	}
}
