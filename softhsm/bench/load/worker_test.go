//go:build linux && cgo

package load

import (
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
)

// A fakeTarget counts its calls.
type fakeTarget struct {
	calls  [2]atomic.Int64 // of each client
	broken int             // the client that cannot be made, or 0
	closed bool
}

func (t *fakeTarget) Weight() int { return 3 }

func (t *fakeTarget) Close() error { t.closed = true; return nil }

func (t *fakeTarget) Client(i int) (func() error, error) {
	if t.broken != 0 && i == t.broken {
		return nil, errors.New("no more sessions")
	}
	return func() error {
		if t.calls[i].Add(1); i == 1 {
			return errors.New("refused")
		}
		return nil
	}, nil
}

func TestServe(t *testing.T) {
	var target fakeTarget
	var out strings.Builder
	if err := Serve(&target, strings.NewReader("1 2000\n2 2000\n"), &out); err != nil {
		t.Fatal(err)
	}
	samples := json.NewDecoder(strings.NewReader(out.String()))
	var first, second Sample
	if err := errors.Join(samples.Decode(&first), samples.Decode(&second)); err != nil {
		t.Fatal(err)
	}
	if got, want := int64(first.Ops+second.Ops), 3*target.calls[0].Load(); got != want {
		t.Errorf("%d operations, want %d: three for each call that succeeded", got, want)
	}
	if first.Errors != 0 || int64(second.Errors) != target.calls[1].Load() || second.Error != "refused" {
		t.Errorf("%d and %d errors (%s), want 0 and %d", first.Errors, second.Errors, second.Error, target.calls[1].Load())
	}
	if len(first.Each) != 1 || len(second.Each) != 2 || second.Each[0] != second.Ops || second.Each[1] != 0 {
		t.Errorf("of each client: %v and %v", first.Each, second.Each)
	}
	if !target.closed {
		t.Error("the target was not closed")
	}
}

// Why a client cannot be made is reported, rather than a broken pipe.
func TestServeBroken(t *testing.T) {
	target := fakeTarget{broken: 1}
	var out strings.Builder
	if err := Serve(&target, strings.NewReader("2 2000\n"), &out); err == nil {
		t.Error("no error")
	}
	var s Sample
	if err := json.Unmarshal([]byte(out.String()), &s); err != nil || s.Broken != "no more sessions" {
		t.Errorf("%+v, %v", s, err)
	}
}
