package daemon

import (
	"bytes"
	"testing"
)

// TestAnswersMove: when an answer needs a longer buffer, those before it are not left in
// the one that was too short.
func TestAnswersMove(t *testing.T) {
	a := &answers{}
	a.begin(NewRequest(me()))
	a.add(response{status: 200, body: []byte("secret")}, false)
	first := a.out
	a.begin(NewRequest(me()))
	a.add(response{status: 200, body: bytes.Repeat([]byte("x"), 2*cap(first))}, false)
	if !bytes.Contains(a.out, []byte("secret")) {
		t.Error("the first answer is gone")
	}
	if bytes.Contains(first, []byte("secret")) {
		t.Errorf("the buffer that was too short still holds %q", first)
	}
}
