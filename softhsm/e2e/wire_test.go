package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/api/apitest"
)

// wireSettings have short deadlines, and admit one request at a time, so that a request
// that is never released shows.
func wireSettings(t *testing.T) *settings {
	t.Helper()
	s := newSettings(t).oneKey()
	s.limits = `{connections: 64, in_flight: 1, per_peer: 1, request_bytes: 65536, timeout: 1s}`
	return s
}

// exchange sends bytes and returns all bytes that come back until the daemon closes. It is
// no error if the daemon closes before all is sent.
func (p *process) exchange(t *testing.T, input string) []byte {
	t.Helper()
	c := p.dial()
	defer c.Close()
	sent := make(chan struct{})
	go func() { // ends when all is sent or the daemon closes
		defer close(sent)
		_, _ = io.WriteString(c, input)
	}()

	out, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection is not closed: %v", err)
	}
	_ = c.Close()
	<-sent
	return out
}

// wantTyped checks that out is empty or well-formed answers, and returns the number of
// answers by status.
func wantTyped(t *testing.T, out []byte) map[int]int {
	t.Helper()
	described, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	count := map[int]int{}

	r := bufio.NewReader(bytes.NewReader(out))
	for {
		if _, err := r.Peek(1); err != nil {
			return count
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("no HTTP answer: %v: %.200q", err, out)
		}

		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatalf("no whole answer: %v: %.200q", err, out)
		}
		count[resp.StatusCode]++

		if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusContinue {
			continue
		}
		var e api.ErrorResponse
		if err := json.Unmarshal(body, &e); err != nil || e.Error.Code == "" || e.Error.RequestID == "" {
			t.Errorf("no typed error: %d %q", resp.StatusCode, body)
		}

		if err := described.Valid("ErrorResponse", body); err != nil {
			t.Errorf("%d %q: %v", resp.StatusCode, body, err)
		}
	}
}

const signBody = `{"key":"oidc","claims":{"aud":"api"}}`

func rawPost(path, headers, body string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body
}

func rawSign(extra string) string {
	return rawPost(api.SignJWT.Path, fmt.Sprintf("Content-Length: %d\r\n%s", len(signBody), extra), signBody)
}

// Malformed input gets a typed error or a closed connection.
func TestE2EGarbage(t *testing.T) {
	p := start(t, wireSettings(t))
	over := strings.Repeat("x", 1<<20)
	const closing = "Connection: close\r\n"
	tests := []struct {
		name, input string
		status      int // of the answer; 0 if the daemon may close instead
	}{
		{"nothing", "", 0},
		{"NUL bytes", strings.Repeat("\x00", 10000), 0},
		{"noise", strings.Repeat("\xff\x13\x37\r\n", 5000), 0},
		{"a TLS ClientHello", "\x16\x03\x01\x00\xf1\x01\x00\x00\xed\x03\x03" + strings.Repeat("\x42", 236), 0},
		{"an HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 0},
		{"HTTP/0.9", "GET /v1/health\r\n\r\n", 0},
		{"HTTP/3.0", "GET /v1/health HTTP/3.0\r\nHost: x\r\n\r\n", 400},
		{"HTTP/1.0", "GET /v1/health HTTP/1.0\r\n\r\n", 200},
		{"no host", "GET /v1/health HTTP/1.1\r\n\r\n", 400},
		{"two hosts", "GET /v1/health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
		{"a header without a colon", "GET /v1/health HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400},
		{"a header with a NUL", "GET /v1/health HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400},
		{"a folded header", "GET /v1/health HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n" + closing + "\r\n", 0},
		{"a header above the limit", "GET /v1/health HTTP/1.1\r\nHost: x\r\nA: " + over + "\r\n\r\n", 400},
		{"a thousand headers", "GET /v1/health HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 5000) + "\r\n", 400},
		{"a path above the limit", "GET /" + over + " HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"a path that does not end", "GET /" + over, 400},
		{"a method of nobody", "SIGN /v1/jwt/sign HTTP/1.1\r\nHost: x\r\n" + closing + "\r\n", 405},
		{"a method with a NUL", "GE\x00T /v1/health HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"GET where POST belongs", "GET /v1/jwt/sign HTTP/1.1\r\nHost: x\r\n" + closing + "\r\n", 405},
		{"POST where GET belongs", rawPost("/v1/keys", closing+"Content-Length: 2\r\n", "{}"), 405},
		{"CONNECT", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n" + closing + "\r\n", 0},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\n" + closing + "\r\n", 404},
		{"a path of nobody", "GET /v1/nothing HTTP/1.1\r\nHost: x\r\n" + closing + "\r\n", 404},
		{"a path with dots", "GET /v1/../v1/health HTTP/1.1\r\nHost: x\r\n" + closing + "\r\n", 404},
		{"a path with a NUL", "GET /v1/keys/%00 HTTP/1.1\r\nHost: x\r\n" + closing + "\r\n", 403},
		{"a path with a bad escape", "GET /v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"an upgrade", rawSign("Connection: Upgrade, close\r\nUpgrade: h2c\r\n"), 200},
		{"an expectation of nobody", rawSign(closing + "Expect: 200-ok\r\n"), 400},
		{"no length", rawPost(api.SignJWT.Path, closing, ""), 400},
		{"a length below zero", rawPost(api.SignJWT.Path, "Content-Length: -1\r\n", signBody), 400},
		{"a length that is no number", rawPost(api.SignJWT.Path, "Content-Length: 1e3\r\n", signBody), 400},
		{"a length that overflows", rawPost(api.SignJWT.Path, "Content-Length: 99999999999999999999\r\n", signBody), 400},
		{"two lengths", rawPost(api.SignJWT.Path, "Content-Length: 37\r\nContent-Length: 36\r\n", signBody), 400},
		{"a body above the limit", rawPost(api.SignJWT.Path, "Content-Length: 1048576\r\n", over), 400},
		{"a body far above the limit", rawPost(api.SignJWT.Path, "Content-Length: 1099511627776\r\n", over), 400},
		{"a body above the limit in chunks", rawPost(api.SignJWT.Path, "Transfer-Encoding: chunked\r\n", strings.Repeat("10000\r\n"+over[:65536]+"\r\n", 3)+"0\r\n\r\n"), 400},
		{"a chunk whose length is none", rawPost(api.SignJWT.Path, "Transfer-Encoding: chunked\r\n"+closing, "zz\r\n"), 400},
		{"a chunk whose length overflows", rawPost(api.SignJWT.Path, "Transfer-Encoding: chunked\r\n"+closing, "fffffffffffffffff\r\n"), 400},
		{"a chunk without its end", rawPost(api.SignJWT.Path, "Transfer-Encoding: chunked\r\n"+closing, "3\r\nabcdef\r\n"), 400},
		{"chunks and a length", rawPost(api.SignJWT.Path, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"+closing, "0\r\n\r\n"), 400},
		{"an encoding of nobody", rawPost(api.SignJWT.Path, "Transfer-Encoding: gzip\r\n", signBody), 400},
		{"chunks that are well", rawPost(api.SignJWT.Path, "Transfer-Encoding: chunked\r\n"+closing, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(signBody), signBody)), 200},
		{"a body that was announced by Expect", rawSign(closing + "Expect: 100-continue\r\n"), 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			count := wantTyped(t, p.exchange(t, tt.input))
			delete(count, http.StatusContinue)
			if tt.status != 0 && (len(count) != 1 || count[tt.status] != 1) {
				t.Errorf("answers by status %v, want one of %d", count, tt.status)
			}
		})
	}

	t.Cleanup(func() { // after the parallel ones
		p.sign("oidc", "")
	})
}

func TestE2EPipelined(t *testing.T) {
	p := start(t, wireSettings(t))
	if got := wantTyped(t, p.exchange(t, strings.Repeat(rawSign(""), 19)+rawSign("Connection: close\r\n"))); got[200] != 20 {
		t.Errorf("answers by status %v, want 20 of 200", got)
	}
	if got := wantTyped(t, p.exchange(t, rawSign("")+rawSign("")+"\x00garbage\r\n\r\n")); got[200] != 2 || got[400] != 1 {
		t.Errorf("answers by status %v, want 2 of 200 and 1 of 400", got)
	}
	if got := wantTyped(t, p.exchange(t, rawPost(api.SignJWT.Path, "Content-Length: 1\r\n", "{")+rawSign("Connection: close\r\n"))); got[400] != 1 || got[200] != 1 {
		t.Errorf("answers by status %v: a bad body spoils the next request", got)
	}
}

// An incomplete request gets a typed error or a closed connection in time, and takes no
// place of a complete one, of which the settings admit one.
func TestE2EHalfSent(t *testing.T) {
	t.Parallel()
	p := start(t, wireSettings(t))
	halves := map[string]string{
		"nothing":          "",
		"half a line":      "POST /v1/jwt",
		"no end of header": "POST /v1/jwt/sign HTTP/1.1\r\nHost: x\r\nContent-Le",
		"no body":          rawPost(api.SignJWT.Path, "Content-Length: 37\r\n", ""),
		"half a body":      rawPost(api.SignJWT.Path, "Content-Length: 37\r\n", signBody[:20]),
		"half a chunk":     rawPost(api.SignJWT.Path, "Transfer-Encoding: chunked\r\n", "25\r\n"+signBody[:20]),
	}

	var conns []net.Conn
	began := time.Now()
	for range 3 {
		for _, half := range halves {
			c := p.dial()
			if _, err := io.WriteString(c, half); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
	}

	p.sign("oidc", "") // it does not wait for them
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { // ends when the daemon closes, or at the deadline of dial
			out, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("not closed: %v", err)
				return
			}
			wantTyped(t, out)
		})
	}

	wg.Wait()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("closed after %v, the timeout is 1 s", took)
	}
	t.Run("by a peer that goes away", func(t *testing.T) {
		for _, half := range halves {
			c := p.dial()
			_, _ = io.WriteString(c, half)
			_ = c.Close()
		}
		p.sign("oidc", "")
	})

	t.Run("by one byte at a time", func(t *testing.T) {
		c := p.dial()
		began := time.Now()
		for _, b := range []byte(rawSign("")) {
			if _, err := c.Write([]byte{b}); err != nil {
				break // closed, as it should be
			}
			time.Sleep(20 * time.Millisecond)
		}
		out, err := io.ReadAll(c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("not closed: %v", err)
		}
		if got := wantTyped(t, out); got[200] != 0 || time.Since(began) > 20*time.Second {
			t.Errorf("answers by status %v after %v", got, time.Since(began))
		}
	})
}

// The daemon closes the connection of a peer that reads no answers. Meanwhile it serves
// other peers.
func TestE2ESlowReader(t *testing.T) {
	t.Parallel()
	p := start(t, wireSettings(t))
	c := p.dial()
	cut := make(chan error, 1)
	go func() { // ends when the daemon has cut the connection
		for {
			if _, err := io.WriteString(c, strings.Repeat("GET /v1/jwks HTTP/1.1\r\nHost: x\r\n\r\n", 100)); err != nil {
				cut <- err
				return
			}
		}
	}()

	for {
		p.sign("oidc", "")
		select {
		case err := <-cut:
			if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("not cut off: %v", err)
			}
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}
