package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/signer"
	"signetd/signer/supervise"
)

const goodJWT = `{"key":"oidc","claims":{"aud":"api","sub":"alice"}}`

// usualPost is a usual request to sign a JWT.
func usualPost(body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: signetd\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", api.SignJWT.Path, len(body), body)
}

// An exchange is an answer that was read to its end.
type exchange struct {
	*http.Response
	body string
}

func readAnswers(t *testing.T, c net.Conn, n int) []exchange {
	t.Helper()
	in := bufio.NewReader(c)
	var all []exchange
	for range n {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("after %d answers: %v", len(all), err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		all = append(all, exchange{resp, string(body)})
	}
	return all
}

// TestPipeline: requests that come together are answered in their order, each with a
// record, also if one is refused or is not usual.
func TestPipeline(t *testing.T) {
	f := serve(t, daemon.Limits{})
	c := f.dial(t)
	chunked := "POST " + api.SignJWT.Path + " HTTP/1.1\r\nHost: signetd\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(goodJWT), goodJWT)
	requests := []string{
		usualPost(goodJWT), usualPost(`{"key":"none"}`), usualPost(`{"batch":[` + goodJWT + `,` + goodJWT + `]}`),
		"GET " + api.GetHealth.Path + " HTTP/1.1\r\nHost: signetd\r\n\r\n", usualPost(goodJWT), chunked, usualPost(goodJWT),
	}
	if _, err := io.WriteString(c, strings.Join(requests, "")); err != nil {
		t.Fatal(err)
	}
	want := []struct {
		status int
		has    string
	}{{200, `"token"`}, {403, `"denied"`}, {200, `"results"`}, {200, `"status":"ok"`}, {200, `"token"`}, {200, `"token"`}, {200, `"token"`}}
	ids := map[string]bool{}
	for i, a := range readAnswers(t, c, len(want)) {
		if a.StatusCode != want[i].status || !strings.Contains(a.body, want[i].has) {
			t.Errorf("answer %d = %d %s, want %d %s", i, a.StatusCode, a.body, want[i].status, want[i].has)
		}
		for _, name := range []string{"Date", "Request-Id"} {
			if a.Header.Get(name) == "" {
				t.Errorf("answer %d has no %s", i, name)
			}
		}
		ids[a.Header.Get("Request-Id")] = true
	}
	if len(ids) != len(want) {
		t.Errorf("%d request ids for %d requests", len(ids), len(want))
	}
	if n := len(f.records(t)); n != 7 {
		t.Errorf("%d records, want 7: one each, two for the batch, none for health", n)
	}
}

// TestSplit: a request may come byte by byte.
func TestSplit(t *testing.T) {
	f := serve(t, daemon.Limits{})
	c := f.dial(t)
	for _, b := range []byte(usualPost(goodJWT)) {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if a := readAnswers(t, c, 1)[0]; a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestConnectionClose: the answer to the last request says that it is, and the
// connection ends.
func TestConnectionClose(t *testing.T) {
	f := serve(t, daemon.Limits{})
	c := f.dial(t)
	if _, err := io.WriteString(c, strings.Replace(usualPost(goodJWT), "\r\n", "\r\nConnection: close\r\n", 1)); err != nil {
		t.Fatal(err)
	}
	if a := readAnswers(t, c, 1)[0]; !a.Close {
		t.Errorf("%v does not say so", a.Header)
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("then %d bytes, %v", n, err)
	}
}

// TestDrainPipeline: what was sent before the server drains is answered, and the last
// answer says that it is the last.
func TestDrainPipeline(t *testing.T) {
	b := newStuckBackend(t)
	f := serveOver(t, daemon.Limits{}, b)
	c := f.dial(t)
	const n = 4
	entered := b.stick()
	if _, err := io.WriteString(c, strings.Repeat(usualPost(goodJWT), n)); err != nil {
		t.Fatal(err)
	}
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- f.server.Shutdown(context.Background()) }() // ends when all is answered
	for !f.server.draining.Load() {
		time.Sleep(time.Millisecond)
	}
	b.release()
	for i, a := range readAnswers(t, c, n) {
		if a.StatusCode != 200 || a.Close != (i == n-1) {
			t.Errorf("answer %d: status %d, close %v", i, a.StatusCode, a.Close)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A stuckBackend has keys whose calls do not return until they are let go, whatever
// becomes of the context: as in a token that hangs.
type stuckBackend struct {
	signer.Backend
	mu      sync.Mutex
	gate    chan struct{} // closed by release; nil while calls pass
	entered chan struct{}
	calls   sync.WaitGroup // those that are stuck
}

func newStuckBackend(t *testing.T) *stuckBackend { return &stuckBackend{Backend: openSoftware(t)} }

// stick has calls stick from now on, and returns what is sent to by each that does.
func (b *stuckBackend) stick() chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gate, b.entered = make(chan struct{}), make(chan struct{}, 100)
	return b.entered
}

func (b *stuckBackend) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.gate)
	b.gate = nil
}

// returned waits until the calls that were stuck have returned, and a moment more for the
// service to see it.
func (b *stuckBackend) returned(t *testing.T) {
	t.Helper()
	b.calls.Wait()
	time.Sleep(10 * time.Millisecond)
}

func (b *stuckBackend) OpenKey(ctx context.Context, ref string) (signer.Key, error) {
	k, err := b.Backend.OpenKey(ctx, ref)
	if err != nil {
		return nil, err
	}
	if _, ok := k.Public().(*ecdsa.PublicKey); ok {
		return stuckKey{k.(signer.Signer), b}, nil
	}
	return k, err
}

type stuckKey struct {
	signer.Signer
	b *stuckBackend
}

// SignContext does as package pkcs11 does: only for a caller that is not supervised it
// obeys the context.
func (k stuckKey) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.b.mu.Lock()
	gate, entered := k.b.gate, k.b.entered
	if gate != nil {
		k.b.calls.Add(1) // under mu, so that it comes before the Wait that follows a release
	}
	k.b.mu.Unlock()
	if gate == nil {
		return k.Signer.SignContext(ctx, digest, opts)
	}
	defer k.b.calls.Done()
	entered <- struct{}{}
	if supervise.Supervised(ctx) {
		<-gate
		return k.Signer.SignContext(context.WithoutCancel(ctx), digest, opts)
	}
	select {
	case <-gate:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return k.Signer.SignContext(ctx, digest, opts)
}

// TestStuckCall: a request whose call hangs is answered when its time is over, with
// those that were ready before it; it has one record, which names the key, and no
// place; and what comes of the call later is thrown away.
func TestStuckCall(t *testing.T) {
	b := newStuckBackend(t)
	f := serveOver(t, daemon.Limits{Timeout: 200 * time.Millisecond, PerPeer: 1}, b)
	c := f.dial(t)
	health := "GET " + api.GetHealth.Path + " HTTP/1.1\r\nHost: signetd\r\n\r\n"
	b.stick()
	if _, err := io.WriteString(c, health+usualPost(goodJWT)+usualPost(goodJWT)); err != nil {
		t.Fatal(err)
	}
	all := readAnswers(t, c, 2)
	if all[0].StatusCode != 200 || all[1].StatusCode != http.StatusGatewayTimeout || errorCode(t, all[1].body) != "deadline" || !all[1].Close {
		t.Errorf("answers %d, and %d %s close %v", all[0].StatusCode, all[1].StatusCode, all[1].body, all[1].Close)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("then %d bytes, %v", n, err)
	}
	status, body := f.do(t, "GET", api.ListKeys.Path, "") // needs a place
	if status != 200 {
		t.Errorf("while the call hangs: %d %s", status, body)
	}
	b.release()
	b.returned(t) // from the call
	if status, body := f.do(t, "POST", api.SignJWT.Path, goodJWT); status != 200 {
		t.Errorf("afterwards: %d %s", status, body)
	}
	var outcomes []string
	for _, r := range f.records(t) {
		outcomes = append(outcomes, r.Op+" "+r.Outcome)
		if r.Outcome == "deadline" && (r.Key != "oidc" || r.KID == "" || r.Alg != "ES256") {
			t.Errorf("the record %+v does not name the key", r)
		}
	}
	if got := strings.Join(outcomes, ", "); got != "sign-jwt deadline, list ok, sign-jwt ok" {
		t.Errorf("records: %s", got)
	}
}

// TestStuckBatch: so are the items of a batch, each by itself.
func TestStuckBatch(t *testing.T) {
	b := newStuckBackend(t)
	f := serveOver(t, daemon.Limits{Timeout: 200 * time.Millisecond, PerPeer: 4}, b)
	c := f.dial(t)
	b.stick()
	body := `{"batch":[` + strings.Repeat(goodJWT+",", 4) + `{"key":"none"},` + goodJWT + `]}`
	if _, err := io.WriteString(c, usualPost(body)+usualPost(`{}`)); err != nil {
		t.Fatal(err)
	}
	all := readAnswers(t, c, 2)
	var results api.Results[api.ErrorResponse]
	if err := json.Unmarshal([]byte(all[0].body), &results); err != nil || len(results.Results) != 6 {
		t.Fatalf("%s: %v", all[0].body, err)
	}
	for i, r := range results.Results {
		if r.Error.Code != "deadline" {
			t.Errorf("item %d: %+v", i, r.Error)
		}
	}
	if all[1].StatusCode != 403 {
		t.Errorf("the request behind it: %d", all[1].StatusCode)
	}
	b.release()
	b.returned(t)
	if n := len(f.records(t)); n != 7 {
		t.Errorf("%d records, want 7: one for each item, and the other request's", n)
	}
}

// TestPipelineWithheld: an answer whose record cannot be written is withheld, and says so.
func TestPipelineWithheld(t *testing.T) {
	f := serve(t, daemon.Limits{})
	c := f.dial(t)
	if err := f.log.Close(); err != nil {
		t.Fatal(err)
	}
	health := "GET " + api.GetHealth.Path + " HTTP/1.1\r\nHost: signetd\r\n\r\n"
	if _, err := io.WriteString(c, health+usualPost(goodJWT)+health+usualPost(`{"batch":[`+goodJWT+`]}`)); err != nil {
		t.Fatal(err)
	}
	for i, a := range readAnswers(t, c, 4) {
		want := []int{200, 503, 200, 503}[i]
		if a.StatusCode != want || strings.Contains(a.body, "token") || want == 503 && errorCode(t, a.body) != "unavailable" {
			t.Errorf("answer %d = %d %s, want %d", i, a.StatusCode, a.body, want)
		}
	}
}

// FuzzHead: what is taken for a usual request net/http reads as the same request.
func FuzzHead(f *testing.F) {
	for _, seed := range []string{
		usualPost(goodJWT), "GET /v1/keys HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/keys HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"POST / HTTP/1.1\r\nhost:\r\nCONTENT-LENGTH: 0\r\nConnection: Close\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12", "POST / HTTP/1.1\r\nHost: x\r\n X: y\r\nContent-Length: +1\r\n\r\n1",
		"POST / HTTP/1.0\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost : x\r\n\r\n", "POST / HTTP/1.1\nHost: x\n\n", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, found := readHead(data)
		if found != complete {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(append(data[:h.size:h.size], make([]byte, h.length)...))))
		if err != nil {
			t.Fatalf("%q is no request for net/http: %v", data[:h.size], err)
		}
		if r.Method != h.method || r.URL.Path != string(h.path) || r.ContentLength != int64(h.length) || r.Close != h.last || len(r.TransferEncoding) > 0 {
			t.Fatalf("%q: %+v, and for net/http %s %s %d %v", data[:h.size], h, r.Method, r.URL.Path, r.ContentLength, r.Close)
		}
		if n, err := io.Copy(io.Discard, r.Body); n != int64(h.length) || err != nil {
			t.Fatalf("a body of %d bytes, %v", n, err)
		}
	})
}
