package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRequestsOnTheWire reads requests as net/http does.
func TestRequestsOnTheWire(t *testing.T) {
	const path = "/v1/jwt/sign"
	for _, body := range []string{`{"key":"k"}`, strings.Repeat("k", 100_000), "{}", ""} {
		method, header := http.MethodPost, http.Header{"Content-Type": {"application/json"}}
		if body == "" {
			method, header = http.MethodGet, http.Header{}
		}
		conn := newPipelinedConn()
		for range 3 { // one behind the other
			c := NewCall(method, RouteKey{Path: path})
			c.Request.WriteString(body)
			conn.track(c)
			c.Free()
		}

		in := bufio.NewReader(bytes.NewReader(conn.out))
		for range 3 {
			req, err := http.ReadRequest(in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(req.Body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Del("Content-Length")
			if req.Method != method || req.RequestURI != path || req.Host != "signetd" || string(got) != body || !cmp.Equal(req.Header, header) {
				t.Errorf("request of %.20s: %s %s %s %v %.20s", body, req.Method, req.RequestURI, req.Host, req.Header, got)
			}
		}
		if n := in.Buffered(); n > 0 {
			t.Errorf("%d bytes behind the last request", n)
		}
	}
}

// TestSecretsAreCleared makes a call, and looks into each buffer that is kept after it.
func TestSecretsAreCleared(t *testing.T) {
	const secret = "correct horse battery staple"
	s := newRawServer(t, func(_ int, c *rawConn) {
		for c.next() != "" {
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n" + secret)
		}
	})
	pool := newTestPool(s.socket)
	t.Cleanup(pool.Close)

	c := NewCall(http.MethodPost, RouteKey{Path: "/v1/key/wrap", Key: "k"})
	c.Request.WriteString(secret)
	if err := pool.Do(t.Context(), c, time.Now().Add(time.Minute)); err != nil || string(c.Answer.Body) != secret {
		t.Fatalf("Do() = %v, answer %q", err, c.Answer.Body)
	}
	request, answer := c.Request.Bytes(), c.Answer.Body
	c.Free()

	conn := pool.idle[0]
	in := reflect.ValueOf(conn.in).Elem().FieldByName("buf").Bytes()
	for name, b := range map[string][]byte{"request": request, "answer": answer, "bufio.Reader": in, "out": conn.out[:cap(conn.out)], "spare": conn.spare[:cap(conn.spare)]} {
		if len(b) == 0 && name != "out" {
			t.Errorf("%s: the test does not see the buffer", name)
		}
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s still holds the secret", name)
		}
	}
}
