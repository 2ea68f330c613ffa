package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
)

// Of a thousand connections at once, against a limit of 64, each gets an answer or a typed
// error with Retry-After, and none hangs.
func TestE2EThousandConnections(t *testing.T) {
	s := newSettings(t).oneKey()
	s.limits = `{connections: 64, in_flight: 8, per_peer: 8, timeout: 5s}`
	s.log = `{level: info}`
	p := start(t, s)
	var mu sync.Mutex
	count := map[int]int{}
	gate := make(chan struct{})

	var ready, done sync.WaitGroup
	for range 1000 {
		ready.Add(1)
		done.Go(func() { // ends with its answer, or at the deadline of knock
			ready.Done()
			<-gate
			out, err := knock(p.sock(), rawSign("Connection: close\r\n"))
			if err != nil {
				t.Error(err)
				return
			}
			got := wantTyped(t, out)
			mu.Lock()
			defer mu.Unlock()
			count[0]++
			for status, n := range got {
				count[status] += n
			}
		})
	}

	ready.Wait()
	close(gate)
	done.Wait()
	if count[200] == 0 || count[200]+count[429] != 1000 || count[0] != 1000 {
		t.Errorf("answers by status %v, want 1000 of 200 or 429", count)
	}
	t.Logf("%d tokens, %d told to come back", count[200], count[429])

	p.sign("oidc", "")
	signed := 0
	for _, r := range p.records(t) {
		if r.Outcome == "ok" && r.Op == "sign-jwt" {
			signed++
		}
	}
	if signed != count[200]+1 {
		t.Errorf("%d records for %d tokens", signed, count[200]+1)
	}
}

// knock sends a request on a connection of its own and returns the bytes of the answer.
// The daemon may answer and close before the whole request is sent.
func knock(socket, request string) ([]byte, error) {
	var c net.Conn
	var err error
	for late := time.Now().Add(deadline); ; time.Sleep(time.Millisecond) {
		if c, err = net.Dial("unix", socket); !errors.Is(err, syscall.EAGAIN) || time.Now().After(late) {
			break // EAGAIN: the listen backlog is full
		}
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()

	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, request); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		return nil, err
	}

	out, err := io.ReadAll(c)
	if errors.Is(err, syscall.ECONNRESET) && len(out) > 0 {
		err = nil
	}
	return out, err
}

// One user cannot take all connections: another user still gets one.
func TestE2EConnectionsOfOneUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	s := newSettings(t).oneKey()
	s.socket = `{path: "$dir/s.sock", mode: "0666"}`
	s.limits = `{connections: 16}`
	s.grants += "\n  - {peer: {user: 65534}, ops: [sign-jwt], keys: [oidc]}"

	p := start(t, s)
	for range 15 {
		p.dial()
	}
	if a := p.asPeer(nobody, signRequest("oidc"))[0]; a.status != http.StatusOK {
		t.Errorf("another user: %d %s", a.status, a.body)
	}

	a := p.do(http.MethodGet, api.GetHealth.Path, nil)
	a.wantError(t, http.StatusTooManyRequests, "overloaded")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// rss returns the resident memory of the daemon in KiB.
func (p *process) rss() int {
	p.t.Helper()
	for line := range strings.Lines(readFile(p.t, fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(text)[0])
			if err != nil {
				p.t.Fatal(err)
			}
			return n
		}
	}
	p.t.Fatal("no VmRSS")
	return 0
}

// The daemon does not grow under twenty thousand bad requests, of which a tenth reach the
// token. There are fewer under the race detector, which is slow.
func TestE2EMemory(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	s.log = `{level: warn}`
	p := start(t, s)
	inbox := p.publicKey("inbox")
	sealed := strings.Split(compact(t, seal(t, inbox, jose.RSA_OAEP_256, jose.A256GCM, make([]byte, 2000), nil)), ".")
	random := base64.RawURLEncoding.EncodeToString(make([]byte, 255)) + "AQ"

	bodies := []struct{ path, body string }{
		{api.SignJWT.Path, "{"}, {api.SignJWT.Path, strings.Repeat("[", 5000)}, {api.SignJWT.Path, `{"key":"` + strings.Repeat("k", 5000) + `"}`},
		{api.SignJWT.Path, `{"key":"oidc","claims":{"aud":"nobody"}}`}, {api.VerifyJWT.Path, `{"token":"a.b.c"}`},
		{api.DecryptJWE.Path, `{"jwe":"` + strings.Repeat("A.", 3000) + `"}`}, {"/v1/" + strings.Repeat("x", 3000), "{}"},
		{api.DecryptJWE.Path, fmt.Sprintf(`{"jwe":"%s.%s.%s.%s.%s"}`, sealed[0], sealed[1], sealed[2], sealed[3], sealed[2])},
		{api.SignJWS.Path, `{"key":"notes","payload":"=="}`}, {api.UnwrapCEK.Path, `{"key":"inbox","alg":"RSA-OAEP-256","encrypted_key":"` + random + `"}`},
	}

	flood := func(n int) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() { // ends after its share
				client := newClient(p.sock())
				defer client.CloseIdleConnections()
				for i := range n / 8 {
					b := bodies[(i+w)%len(bodies)]
					if i%2 == 0 && (b.path == api.DecryptJWE.Path || b.path == api.UnwrapCEK.Path) {
						b = bodies[0]
					}
					if a, err := send(client, http.MethodPost, b.path, b.body); err != nil || a.status < 400 {
						t.Errorf("%s: %d %s %v", b.path, a.status, a.body, err)
						return
					}
				}
			})
		}

		wg.Wait()
	}

	warm, all, most := 4000, 20000, 32<<10
	if raceEnabled {
		warm, all, most = 2000, 8000, 128<<10 // the race detector keeps a history of accesses
	}
	flood(warm) // pools and heap reach their size
	before := p.rss()
	flood(all - warm)
	after := p.rss()
	t.Logf("%d KiB before, %d KiB after", before, after)

	if grown := after - before; grown > most {
		t.Errorf("the daemon grew by %d KiB", grown)
	}
	p.sign("oidc", "")
}
