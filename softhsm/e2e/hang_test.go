package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
	"signetd/softhsm/faultp11"
)

// threads returns the number of threads of the daemon.
func (p *process) threads() int {
	p.t.Helper()
	for line := range strings.Lines(readFile(p.t, fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))) {
		if text, ok := strings.CutPrefix(line, "Threads:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil {
				p.t.Fatal(err)
			}
			return n
		}
	}
	p.t.Fatal("no Threads")
	return 0
}

// copyModule copies the token's library. The dynamic loader identifies a library by its
// file (dlopen(3)), so the copy has a state of its own, and faults in it do not concern a
// backend on the original.
func copyModule(t *testing.T, s *settings) string {
	t.Helper()
	from, err := os.Open(s.token.Module())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()

	path := s.path("copy.so")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}

	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// latency returns the median and the longest time of n signatures by the key notes, one
// after the other.
func (p *process) latency(n int) (median, slowest time.Duration) {
	p.t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		post[api.SignJWSResponse](p, api.SignJWS.Path, api.SignJWSRequest{Key: "notes", Payload: []byte("x")})
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[n/2], took[n-1]
}

// A module hangs for ever while 32 clients sign and decrypt. A backend on another module
// keeps its latency. Requests to the one that hangs are answered within the deadline, and
// with 503 at once as soon as every session hangs. The number of threads stays bounded.
// When the calls return, the backend serves again.
func TestE2EHangingBackend(t *testing.T) {
	s := newSettings(t)
	s.limits = `{connections: 256, in_flight: 64, per_peer: 64, timeout: 1s}`
	s.log = `{level: warn}`
	f := faultp11.Elsewhere(t, copyModule(t, s))
	s.env = append(s.env, f.Env()...)
	const backend = "\n  - {name: %s, pkcs11: {module: %q, token: \"$token\", pin_file: \"$pin\", sessions: 4}}"
	s.backends = fmt.Sprintf(backend+backend, "hsm", f.Module(), "well", s.token.Module())
	s.keys = oidcKey + strings.Replace(notesKey, "backend: hsm", "backend: well", 1) + inboxKey
	s.grants = strings.NewReplacer(", rsa", "", ", outbox", "").Replace(allGrants)
	p := start(t, s)
	before, _ := p.latency(200)

	f.Inject("C_Sign * hang", "C_Decrypt * hang")
	stop := make(chan struct{})
	var clients sync.WaitGroup
	answers := make([]map[int]int, 32)
	key := part(t, strings.Split(compact(t, seal(t, p.publicKey("inbox"), jose.RSA_OAEP, jose.A256GCM, nil, nil)), ".")[1])
	for i := range answers {
		answers[i] = map[int]int{}
		clients.Go(func() { p.hammer(stop, i%4 == 0, key, answers[i]) }) // ends with stop
	}
	time.Sleep(1500 * time.Millisecond) // every session hangs, and the requests that waited for one have timed out
	during, slowest := p.latency(200)
	for range 5 {
		began := time.Now()
		p.do(http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body).wantError(t, http.StatusServiceUnavailable, "unavailable")
		if d := time.Since(began); d > time.Second {
			t.Errorf("503 took %v", d)
		}
	}
	threads := p.threads()
	p.alive()
	close(stop)
	clients.Wait()
	total := map[int]int{}
	for _, a := range answers {
		for status, n := range a {
			total[status] += n
		}
	}
	t.Logf("the other backend: median %v before, %v during (slowest %v); %d threads; answers of the one that hangs: %v", before, during, slowest, threads, total)
	if limit := 4*before + 10*time.Millisecond; during > limit {
		t.Errorf("the median of the other backend is %v, and was %v", during, before)
	}
	if threads >= 64 {
		t.Errorf("%d threads, want fewer than 64", threads)
	}
	if total[http.StatusServiceUnavailable] == 0 || total[http.StatusOK] != 0 {
		t.Errorf("answers by status: %v, want some 503 and no 200", total)
	}

	f.Clear()
	began := time.Now()
	for p.do(http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body).status != http.StatusOK {
		if time.Since(began) > 5*time.Second {
			t.Fatal("the calls have returned, and it does not serve")
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("serves again after %v", time.Since(began).Round(time.Millisecond))
	p.stop()
	tidy(t, f)
}

// hammer sends requests to the backend that hangs until stop is closed. Each answer must
// come within the deadline of one second.
func (p *process) hammer(stop <-chan struct{}, decrypts bool, key []byte, answers map[int]int) {
	client := newClient(p.sock())
	defer client.CloseIdleConnections()
	path, body := api.SignJWT.Path, any(signRequest("oidc").Body)
	if decrypts {
		path, body = api.UnwrapCEK.Path, api.UnwrapCEKRequest{Key: "inbox", Alg: "RSA-OAEP", EncryptedKey: key}
	}

	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond): // a client that got 503 would wait longer
		}
		began := time.Now()
		a, err := send(client, http.MethodPost, path, body)
		if d := time.Since(began); err != nil || d > 2*time.Second {
			p.t.Errorf("%s: %v after %v", path, err, d)
			return
		}
		if a.status != http.StatusServiceUnavailable && a.status != http.StatusGatewayTimeout && a.status != http.StatusTooManyRequests {
			p.t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		answers[a.status]++
	}
}
