package softhsm_test

import (
	"encoding/binary"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"signetd/daemon/api"
)

// The numbers of the control file that are used here, as in
// backends/pkcs11/testdata/shim.c.
const (
	shimInitializes = 0
	shimFinalizes   = 1
	shimLogins      = 2
	shimOpens       = 4
	shimCloses      = 5
	shimSigns       = 6
	shimViolations  = 9
	shimGate        = 32
	shimFlip        = 35
	shimNumbers     = 64
)

// shim builds the module with faults of package pkcs11's tests, once.
var shim = sync.OnceValues(func() (string, error) {
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		return "", err
	}
	path := filepath.Join(shared.dir, "shim.so")
	cc := exec.Command("cc", "-shared", "-fPIC", "-O1", "-I"+strings.TrimSpace(string(headers)), "-o", path, "../backends/pkcs11/testdata/shim.c", "-ldl")
	cc.Stderr = os.Stderr
	return path, cc.Run()
})

// A control is the file by which a test and the shim in a daemon talk.
type control struct {
	t    *testing.T
	path string
}

// withShim puts the shim before the token.
func withShim(t *testing.T, s *settings) control {
	t.Helper()
	module, err := shim()
	if err != nil {
		t.Fatal(err)
	}
	c := control{t, s.path("control")}
	writeFile(t, c.path, string(make([]byte, 8*shimNumbers)))
	s.env = []string{"SHIM_MODULE=" + s.token.Module(), "SHIM_CONTROL=" + c.path}
	s.backends = strings.Replace(s.backends, "$module", module, 1)
	return c
}

func (c control) get(i int) uint64 {
	c.t.Helper()
	return binary.NativeEndian.Uint64([]byte(readFile(c.t, c.path)[8*i:]))
}

func (c control) set(i int, v uint64) {
	c.t.Helper()
	f, err := os.OpenFile(c.path, os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, v), int64(8*i)); err != nil {
		c.t.Fatal(err)
	}
}

// tidy checks that all that was opened was closed, and that nothing was running
// when it was.
func (c control) tidy() {
	c.t.Helper()
	if o, n := c.get(shimOpens), c.get(shimCloses); o != n || o == 0 {
		c.t.Errorf("%d sessions opened, %d closed", o, n)
	}
	if i, n := c.get(shimInitializes), c.get(shimFinalizes); i != n || i == 0 {
		c.t.Errorf("C_Initialize %d times, C_Finalize %d times", i, n)
	}
	if n := c.get(shimViolations); n != 0 {
		c.t.Errorf("%d times a call was running at C_Logout or C_Finalize", n)
	}
}

// A wrong PIN is shown to the token once, by serve as by check.
func TestE2EOneLoginAttempt(t *testing.T) {
	s := newSettings(t).oneKey()
	s.token = newToken(t, "counted")
	c := withShim(t, s)
	writeFile(t, s.path("wrong"), "not-the-pin")
	s.backends = strings.Replace(s.backends, "$pin", s.path("wrong"), 1)
	for i, command := range []string{"check", "serve"} {
		if got := refused(t, s, command); !strings.Contains(got, s.path("wrong")) {
			t.Errorf("%s", got)
		}
		if n := c.get(shimLogins); n != uint64(i+1) {
			t.Errorf("%s: %d logins in all, want %d", command, n, i+1)
		}
	}
	c.tidy()
}

// Under load, reloads and a stop the module is never pulled from under a call.
func TestE2EModuleTidy(t *testing.T) {
	s := newSettings(t).oneKey()
	s.limits = `{connections: 256, per_peer: 64}`
	c := withShim(t, s)
	p := start(t, s)
	clients := s.loop(16)
	for range 5 {
		clients.await(t, 50)
		decode[api.Reloaded](t, "reload", p.reload())
	}
	p.stop()
	clients.end(t, s)
	c.tidy()
	if n := c.get(shimLogins); n != 1 {
		t.Errorf("%d logins, want 1 for the whole life of the daemon", n)
	}
}

// A token that signs wrongly, by one bit, gives no signature away.
func TestE2EWrongSignature(t *testing.T) {
	s := newSettings(t)
	c := withShim(t, s)
	p := start(t, s)
	good := p.sign("oidc", "").Token
	c.set(shimFlip, 1)
	for _, q := range []struct {
		path string
		body any
	}{
		{api.PathSignJWT, signRequest("oidc").Body},
		{api.PathSignJWT, `{"key":"rsa","alg":"RS256","claims":{"aud":"api"}}`},
		{api.PathSignJWT, `{"key":"rsa","alg":"PS256","claims":{"aud":"api"}}`},
		{api.PathSignJWS, api.SignJWSRequest{Key: "notes", Payload: []byte("x")}},
		{api.PathSignDigest, api.SignDigestRequest{Key: "notes", Alg: "ES256", Digest: make([]byte, 32)}},
	} {
		a := p.do(http.MethodPost, q.path, q.body)
		if a.status < 500 || strings.Contains(string(a.body), "eyJ") {
			t.Errorf("%s: %d %s", q.path, a.status, a.body)
		}
	}
	c.set(shimFlip, 0)
	if p.sign("oidc", "").Token == good {
		t.Error("the same token twice")
	}
	if !strings.Contains(p.stderr.String(), "level=ERROR") {
		t.Error("the log does not say so")
	}
}

// A token that does not answer costs each request its timeout, and no more: the
// others get a typed error, health is answered, and when the token is back all is
// well.
func TestE2EHungToken(t *testing.T) {
	t.Parallel()
	s := newSettings(t).oneKey()
	s.limits = `{connections: 64, in_flight: 16, per_peer: 16, timeout: 1s}`
	c := withShim(t, s)
	p := start(t, s)
	p.sign("oidc", "")
	c.set(shimGate, 1)
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() { // ends at the daemon's timeout
			a, err := send(p.client, http.MethodPost, api.PathSignJWT, signRequest("oidc").Body)
			if err != nil || (a.status != 504 && a.status != 503 && a.status != 429) {
				t.Errorf("%d %s %v", a.status, a.body, err)
				return
			}
			_ = a.wantError(t, a.status, map[int]string{504: "deadline", 503: "unavailable", 429: "overloaded"}[a.status])
		})
	}
	p.alive()
	began := time.Now()
	wg.Wait()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("answered after %v, the timeout is 1 s", took)
	}
	p.alive()
	c.set(shimGate, 0)
	for late := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		if a := p.do(http.MethodPost, api.PathSignJWT, signRequest("oidc").Body); a.status == http.StatusOK {
			break
		} else if time.Now().After(late) {
			t.Fatalf("the token is back, the daemon is not: %s", a.body)
		}
	}
	p.stop()
	c.tidy()
}

// A stop ends even if the token never answers again.
func TestE2EStopWithHungToken(t *testing.T) {
	t.Parallel()
	s := newSettings(t).oneKey()
	s.limits = `{timeout: 1s}`
	c := withShim(t, s)
	p := start(t, s)
	c.set(shimGate, 1)
	p.do(http.MethodPost, api.PathSignJWT, signRequest("oidc").Body).wantError(t, http.StatusGatewayTimeout, "deadline")
	signs := c.get(shimSigns)
	began := time.Now()
	p.signal(os.Interrupt)
	code := p.wait()
	if took := time.Since(began); took > 30*time.Second || code != 1 {
		t.Errorf("exit code %d after %v, want 1 after the drain timeout of 15 s", code, took)
	}
	if signs == 0 || !strings.Contains(p.stderr.String(), "signetd: close: a backend does not answer") {
		t.Errorf("it does not say why: %s", p.stderr.tail())
	}
	if _, err := os.Lstat(p.sock()); err == nil {
		t.Error("the socket is still there")
	}
}
