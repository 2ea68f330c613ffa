package server

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"signetd/daemon"
	"signetd/daemon/api"
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

// A recordedWrite is a connection that keeps the buffer of its last write, and the text
// that was in it then.
type recordedWrite struct {
	net.Conn
	text   string
	buffer []byte
}

func (w *recordedWrite) Write(b []byte) (int, error) {
	w.text, w.buffer = string(b), b
	return len(b), nil
}

func (*recordedWrite) SetWriteDeadline(time.Time) error { return nil }

// TestWithheldFits: errors that are longer than the answers in whose place they are sent
// fit into the buffer that was made for them. If it grew, a copy of the other answers would
// be left behind.
func TestWithheldFits(t *testing.T) {
	f := serve(t, daemon.Limits{})
	if err := f.log.Close(); err != nil {
		t.Fatal(err)
	}

	var q responseQueue
	q.add(&daemon.Response{Status: 200, Body: []byte("secret")}, false)
	const withheld = 20
	for range withheld {
		r := f.service.Begin(me())
		r.Method, r.Path, r.Body = http.MethodPost, api.SignJWT.Path, []byte(goodJWT)
		answer := f.service.Answer(t.Context(), &r)
		answer.Body = []byte("{}")
		q.add(&answer, false)
	}
	before, room := len(q.out), len(q.out)+2*headBytes*len(q.list)

	var w recordedWrite
	if err := q.send(&w); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(w.text, "HTTP/1.1 503 "); n != withheld || !strings.Contains(w.text, "secret") || len(w.text) <= before {
		t.Errorf("%d errors, want %d: %s", n, withheld, w.text)
	}
	if cap(w.buffer) != room {
		t.Errorf("the buffer grew to %d bytes from %d", cap(w.buffer), room)
	}
	if bytes.Contains(w.buffer, []byte("secret")) {
		t.Error("the buffer still holds an answer after it is sent")
	}
}
