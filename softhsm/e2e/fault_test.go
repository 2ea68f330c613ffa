package e2e

import (
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/softhsm/faultp11"
)

// withFaults loads the token through the fault module.
func withFaults(t *testing.T, s *settings) *faultp11.Module {
	t.Helper()
	f := faultp11.Elsewhere(t, s.token.Module())
	s.env = append(s.env, f.Env()...)
	s.backends = strings.Replace(s.backends, "$module", f.Module(), 1)
	return f
}

// tidy checks that the daemon closed each session and finalized the module, and that no
// call was running in the module at that time.
func tidy(t *testing.T, f *faultp11.Module) {
	t.Helper()
	if n := f.Count("left-open"); n.Calls != 0 || f.Count("sessions").Calls == 0 {
		t.Errorf("%d of %d sessions were open at C_Finalize", n.Calls, f.Count("sessions").Calls)
	}
	if i, n := f.Count("C_Initialize").Calls, f.Count("C_Finalize").Calls; i != n || i == 0 {
		t.Errorf("C_Initialize %d times, C_Finalize %d times", i, n)
	}
	for _, name := range []string{"shared-session", "busy-close", "busy-logout", "busy-finalize"} {
		if n := f.Count(name).Calls; n != 0 {
			t.Errorf("%s: %d times", name, n)
		}
	}
}

// serve and check show a wrong PIN to the token once.
func TestE2EOneLoginAttempt(t *testing.T) {
	s := newSettings(t).oneKey()
	s.token = newToken(t, "counted")
	f := withFaults(t, s)
	writeFile(t, s.path("wrong"), "not-the-pin")
	s.backends = strings.Replace(s.backends, "$pin", s.path("wrong"), 1)
	for i, command := range []string{"check", "serve"} {
		if got := refused(t, s, command); !strings.Contains(got, s.path("wrong")) {
			t.Errorf("%s", got)
		}
		if n := f.Count("C_Login").Calls; n != i+1 {
			t.Errorf("%s: %d logins in all, want %d", command, n, i+1)
		}
	}

	tidy(t, f)
}

// At start each key is used once for each of its algorithms and no more: a token may be
// slow, and may count the uses of a key.
func TestE2EStartUsesKeysOnce(t *testing.T) {
	s := newSettings(t)
	f := withFaults(t, s)
	start(t, s)
	// oidc and notes sign with ES256, rsa with RS256 and PS256. Inbox and outbox are
	// probed with each hash of RSA-OAEP.
	if signs, opens := f.Count("C_Sign"), f.Count("C_Decrypt"); signs.Calls != 4 || opens.Calls != 8 {
		t.Errorf("C_Sign was called %d times, want 4, and C_Decrypt %d times, want 8", signs.Calls, opens.Calls)
	}
}

// No call runs in the module when it is finalized, even under load, reloads and a stop:
// C_Finalize under a running call is a crash.
func TestE2EModuleTidy(t *testing.T) {
	s := newSettings(t).oneKey()
	s.limits = `{connections: 256, per_peer: 64}`
	f := withFaults(t, s)
	p := start(t, s)
	clients := s.loop(16)
	for range 5 {
		clients.await(t, 50)
		decode[api.Reloaded](t, "reload", p.reload())
	}

	p.stop()
	clients.end(t, s)
	tidy(t, f)
	if n := f.Count("C_Login").Calls; n != 1 {
		t.Errorf("%d logins, want 1 for the whole life of the daemon", n)
	}
}

// If the token makes a signature with one wrong bit, the daemon answers with no signature.
func TestE2EWrongSignature(t *testing.T) {
	s := newSettings(t)
	f := withFaults(t, s)
	p := start(t, s)
	good := p.sign("oidc", "").Token
	f.Inject("C_Sign * flip")
	for _, q := range []struct {
		path string
		body any
	}{
		{api.SignJWT.Path, signRequest("oidc").Body},
		{api.SignJWT.Path, `{"key":"rsa","alg":"RS256","claims":{"aud":"api"}}`},
		{api.SignJWT.Path, `{"key":"rsa","alg":"PS256","claims":{"aud":"api"}}`},
		{api.SignJWS.Path, api.SignJWSRequest{Key: "notes", Payload: []byte("x")}},
		{api.SignDigest.Path, api.SignDigestRequest{Key: "notes", Alg: "ES256", Digest: make([]byte, 32)}},
	} {
		a := p.do(http.MethodPost, q.path, q.body)
		if a.status < 500 || strings.Contains(string(a.body), "eyJ") {
			t.Errorf("%s: %d %s", q.path, a.status, a.body)
		}
	}

	f.Clear()
	if p.sign("oidc", "").Token == good {
		t.Error("the same token twice")
	}
	if !strings.Contains(p.stderr.String(), "level=ERROR") {
		t.Error("the log does not say so")
	}
}

// A token that hangs costs each request at most its timeout. Requests beyond the limits
// get a typed error, health answers, and the daemon signs again when the token does.
func TestE2EHungToken(t *testing.T) {
	t.Parallel()
	s := newSettings(t).oneKey()
	s.limits = `{connections: 64, in_flight: 16, per_peer: 16, timeout: 1s}`
	f := withFaults(t, s)
	p := start(t, s)
	p.sign("oidc", "")
	f.Inject("C_Sign * hang")

	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() { // ends at the daemon's timeout
			a, err := send(p.client, http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body)
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
	f.Clear()
	for late := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		if a := p.do(http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body); a.status == http.StatusOK {
			break
		} else if time.Now().After(late) {
			t.Fatalf("the token is back, the daemon is not: %s", a.body)
		}
	}

	p.stop()
	tidy(t, f)
}

// The daemon stops even if the token never answers again.
func TestE2EStopWithHungToken(t *testing.T) {
	t.Parallel()
	s := newSettings(t).oneKey()
	s.limits = `{timeout: 1s}`
	f := withFaults(t, s)
	p := start(t, s)
	f.Inject("C_Sign * hang")
	p.do(http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body).wantError(t, http.StatusGatewayTimeout, "deadline")
	signs := f.Count("C_Sign").Calls

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
