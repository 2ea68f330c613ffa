package server

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"signetd/daemon"
)

// TestQueueGrows: when an answer needs a longer buffer, those before it are not left in
// the one that was too short.
func TestQueueGrows(t *testing.T) {
	var q responseQueue
	q.add(&daemon.Response{Status: 200, Body: []byte("secret")}, false)
	first := q.out
	q.add(&daemon.Response{Status: 200, Body: bytes.Repeat([]byte("x"), 2*cap(first))}, false)
	if !bytes.Contains(q.out, []byte("secret")) {
		t.Error("the first answer is gone")
	}
	if bytes.Contains(first, []byte("secret")) {
		t.Errorf("the buffer that was too short still holds %q", first)
	}
}

// TestNotHTTPLater: what is no HTTP is told so, however long after the last answer.
func TestNotHTTPLater(t *testing.T) {
	f := serve(t, daemon.Limits{})
	l, peer := newFastConn(t, f)
	if err := l.SetWriteDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	text := "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
	if _, err := io.WriteString(&fallbackConn{l.conn, f.service, nil}, text); err != nil {
		t.Fatal(err)
	}
	if a := readAnswers(t, peer, 1)[0]; a.StatusCode != http.StatusBadRequest || errorCode(t, a.body) != "invalid" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}
