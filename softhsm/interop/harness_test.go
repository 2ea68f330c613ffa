//go:build cgo

package interop_test

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
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/api/apitest"
	"signetd/signer"
	"signetd/softhsm"
)

// A key is a key of the daemon under test.
type key struct {
	name string
	algs []signer.Alg
	use  signer.Use     // that of its JWK, or of its algs
	jwk  map[string]any // private or symmetric
	kid  string
}

// newKey returns a key of one version for algs. The kid is the JWK's, or the name.
func newKey(name string, jwk map[string]any, algs ...signer.Alg) key {
	kid, _ := jwk["kid"].(string)
	if kid == "" {
		kid = name
	}
	name = strings.Map(func(r rune) rune { // the characters that the name of a key may have
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-", r) {
			return r
		}
		return '.'
	}, strings.ToLower(name))

	use := algs[0].Use()
	if said, ok := jwk["use"].(string); ok {
		use = signer.Use(said)
	}
	return key{name: name, algs: algs, use: use, jwk: jwk, kid: kid}
}

// A daemon is the real signetd with some keys. The user who runs the test may do with each
// key all that the key can do.
type daemon struct {
	client *http.Client // checks each exchange against the OpenAPI document
	plain  *http.Client // checks nothing
	socket string
	dir    string
}

// serve runs signetd over software keys until the test ends.
func serve(t testing.TB, keys ...key) *daemon {
	t.Helper()
	dir := newDir(t)
	return run(t, dir, software, keys, keyFiles(t, dir, keys))
}

// software is the backend in a config for software keys.
const software = "insecure_software_keys: true\nbackends:\n  - {name: b, software: {}}\n"

// keyFiles writes keys to files and returns their refs.
func keyFiles(t testing.TB, dir string, keys []key) (refs []string) {
	t.Helper()
	for i, k := range keys {
		path := filepath.Join(dir, fmt.Sprintf("%d.jwk", i))
		jwk := map[string]any{}
		for name, v := range k.jwk {
			switch name {
			case "use", "key_ops", "kid", "alg": // these are in the config
			default:
				jwk[name] = v
			}
		}
		jwk["alg"] = k.algs[0] // a symmetric key needs one
		write(t, path, encode(t, jwk))
		refs = append(refs, path)
	}

	return refs
}

// checkConfig runs `signetd check` on a config with software keys.
func checkConfig(t testing.TB, keys ...key) error {
	t.Helper()
	bin, err := softhsm.Signetd()
	if err != nil {
		t.Fatal(err)
	}
	dir := newDir(t)
	path := filepath.Join(dir, "signetd.yaml")
	write(t, path, []byte(config(dir, software, keys, keyFiles(t, dir, keys))))
	if out, err := exec.CommandContext(t.Context(), bin, "check", "--config", path).CombinedOutput(); err != nil {
		return fmt.Errorf("signetd check: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// serveToken is serve with the keys imported into a fresh SoftHSM2 token.
func serveToken(t testing.TB, keys ...key) *daemon {
	t.Helper()
	token := softhsm.New(t)
	refs := importKeys(t, token, keys)
	return run(t, newDir(t), fmt.Sprintf("backends:\n  - {name: b, pkcs11: {module: %q, token: %q, pin_file: %q, sessions: 4}}\n",
		token.Module(), token.Label(), token.PINFile()), keys, refs)
}

// newDir makes a directory whose path is short enough for a socket.
func newDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// config returns the config file. Each key that signs is also the key of a trusted issuer,
// which verifies a JWS without a kid, as others make it.
func config(dir, backends string, keys []key, refs []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "socket: {path: %q, mode: \"0600\"}\naudit: {path: %q, sync: never}\nlimits: {refusals: 1000000}\n%s", dir+"/s", dir+"/audit.jsonl", backends)
	issuers, grants := "", fmt.Sprintf("grants:\n  - {peer: {user: %d}, ops: [encrypt-jwk]}\n", os.Getuid())
	b.WriteString("keys:\n")
	for i, k := range keys {
		ops, granted := "decrypt, unwrap, encrypt, wrap-key, unwrap-key", fmt.Sprintf("%q", k.name)
		fmt.Fprintf(&b, "  - name: %q\n    use: %s\n    algs: [%s]\n    versions: [{backend: b, ref: %q, kid: %q}]\n", k.name, k.use, join(k.algs), refs[i], k.kid)
		if k.use == signer.UseSig {
			ops = "verify-jws"
			issuers += fmt.Sprintf("  - {name: %q, issuer: \"https://id.example\", key: %q, algs: [%s], audiences: [a]}\n", "by."+k.name, k.name, join(k.algs))
			granted += fmt.Sprintf(", %q", "by."+k.name)
			grants += fmt.Sprintf("  - {peer: {user: %d}, ops: [sign-jws, sign-digest, mac-sign, mac-verify], keys: [%q]}\n", os.Getuid(), k.name)
		}
		grants += fmt.Sprintf("  - {peer: {user: %d}, ops: [%s], keys: [%s]}\n", os.Getuid(), ops, granted)
	}

	if issuers != "" {
		issuers = "issuers:\n" + issuers
	}
	return b.String() + issuers + grants
}

func join(algs []signer.Alg) string {
	var names []string
	for _, a := range algs {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}

// run starts signetd and returns when it answers.
func run(t testing.TB, dir, backends string, keys []key, refs []string) *daemon {
	t.Helper()
	bin, err := softhsm.Signetd()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{socket: dir + "/s", dir: dir}
	path := filepath.Join(dir, "signetd.yaml")
	write(t, path, []byte(config(dir, backends, keys, refs)))
	var stderr bytes.Buffer
	cmd := exec.Command(bin, "serve", "--config", path)
	cmd.Stderr = &stderr

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the process, which the cleanup ends
	transport := &http.Transport{MaxIdleConnsPerHost: 16, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
	}}

	d.client = &http.Client{Timeout: time.Minute, Transport: apitest.Transport{Base: transport}}
	d.plain = &http.Client{Timeout: time.Minute, Transport: transport}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(d.socket); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("signetd: %v\n%s", err, stderr.String())
		default:
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			t.Fatalf("signetd does not answer\n%s", stderr.String())
		}
	}

	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			t.Errorf("signetd: %v\n%s", err, stderr.String())
		}
	})
	return d
}

// post sends a request and returns the status and the body of the answer. Both are checked
// against the OpenAPI document.
func (d *daemon) post(t testing.TB, path string, q any) (int, []byte) {
	t.Helper()
	resp, err := d.client.Post("http://signetd"+path, "application/json", bytes.NewReader(encode(t, q)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// ask is post for an answer of 200. Any other answer is an error.
func ask[A any](t testing.TB, d *daemon, path string, q any) (a A, err error) {
	t.Helper()
	status, body := d.post(t, path, q)
	if status != http.StatusOK {
		return a, fmt.Errorf("%d %s", status, bytes.TrimSpace(body))
	}
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatal(err)
	}
	return a, nil
}

// open decrypts a JWE with the daemon.
func (d *daemon) open(t testing.TB, jwe string) (string, error) {
	t.Helper()
	a, err := ask[api.DecryptJWEResponse](t, d, api.DecryptJWE.Path, api.DecryptJWERequest{JWE: jwe})
	return string(a.Plaintext), err
}

// verify verifies a JWS with the daemon, by a key or by the issuer with that key, and
// returns the payload.
func (d *daemon) verify(t testing.TB, k key, jws string, detached []byte) (string, error) {
	t.Helper()
	a, err := ask[api.VerifyJWSResponse](t, d, api.VerifyJWS.Path, api.VerifyJWSRequest{JWS: jws, Payload: detached, Key: "by." + k.name})
	return string(a.Payload), err
}

// makers start a daemon with given keys, by the name of its backend.
var makers = map[string]func(testing.TB, ...key) *daemon{"software": serve, "softhsm2": serveToken}

// table prints a table to the log of a test.
func table(t testing.TB, title string, rows [][]string) {
	t.Helper()
	width := []int{}
	for _, r := range rows {
		for i, cell := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(cell))
		}
	}

	var b strings.Builder
	for _, r := range rows {
		for i, cell := range r {
			fmt.Fprintf(&b, "%-"+strconv.Itoa(width[i]+2)+"s", cell)
		}
		b.WriteString("\n")
	}
	t.Logf("%s\n%s", title, b.String())
}
