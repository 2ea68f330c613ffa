package signer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"signetd/signer"
)

// Every operation of a version whose key was never open is unavailable, and a place joins
// later.
func TestVersionMissing(t *testing.T) {
	v, err := signer.NewVersion(nil, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, Places: []signer.PlaceConfig{{Backend: "a"}}})
	if err != nil || v.Seen() || !v.Missing() || v.KID() != "" || v.JWK() != nil {
		t.Fatalf("NewVersion() = %+v, %v", v, err)
	}
	if _, err := v.SignMessage(t.Context(), signer.ES256, []byte("x")); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("SignMessage() = %v, want ErrUnavailable", err)
	}
	if _, err := v.Verify(t.Context(), signer.ES256, []byte("x"), make([]byte, 64)); !errors.Is(err, signer.ErrUnavailable) {
		t.Errorf("Verify() = %v, want ErrUnavailable: it may be right", err)
	}

	key := newECKey(t)
	v, err = signer.NewVersion(nil, signer.VersionConfig{
		Public: key.Public(), Algs: []signer.Alg{signer.ES256}, Places: []signer.PlaceConfig{{Backend: "a"}, {Backend: "b"}},
	})
	if err != nil || !v.Seen() || !v.Missing() || v.JWK() == nil {
		t.Fatalf("NewVersion() of a public half that is known = %+v, %v", v, err)
	}
	if err := v.Join(t.Context(), 1, &memoryKey{ec: key}); err != nil || v.Missing() {
		t.Fatalf("Join() = %v, Missing() = %t", err, v.Missing())
	}
	if err := v.Prove(t.Context()); err != nil {
		t.Error(err)
	}
}

// The version that signs follows from config and clock. Another version signs only while
// the backend of that one is away.
func TestNamedKeyAway(t *testing.T) {
	now := time.Now()
	old, new := &memoryKey{ec: newECKey(t)}, &memoryKey{ec: newECKey(t)}
	version := func(k *memoryKey, from time.Time) *signer.Version {
		v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, NotBefore: from})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}

	v1, v2, v3 := version(old, time.Time{}), version(new, now.Add(-time.Hour)), version(old, now.Add(time.Hour))
	k := signer.NamedKey{Name: "k", Versions: []*signer.Version{v1, v2, v3}}
	active := func(want *signer.Version) {
		t.Helper()
		if got, err := k.Active(now); err != nil || got != want {
			t.Errorf("Active() = %p, %v, want %p", got, err, want)
		}
		if got, err := k.Intended(now); err != nil || got != v2 {
			t.Errorf("Intended() = %p, %v, want %p", got, err, v2)
		}
	}

	active(v2)
	new.fail(signer.ErrUnavailable)
	_, _ = v2.SignMessage(t.Context(), signer.ES256, []byte("x"))
	active(v1)
	if list, err := k.Candidates(now); err != nil || len(list) != 2 || list[0] != v1 || list[1] != v2 {
		t.Errorf("Candidates() = %v, %v; want the old version first, and not the one to come", list, err)
	}

	for looked := 0; looked == 0; {
		list, err := k.Candidates(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if list[0] == v2 {
			looked++
			new.err.Store(nil)
			if again, _ := k.Candidates(time.Now()); again[0] != v1 {
				t.Error("two are to look at once")
			}
			_, _ = v2.SignMessage(t.Context(), signer.ES256, []byte("x"))
		}
	}

	active(v2)
}

func TestPassing(t *testing.T) {
	tests := []struct {
		err  error
		want bool
	}{
		{nil, false},
		{fmt.Errorf("open: %w", signer.ErrUnavailable), true},
		{signer.ErrOverloaded, true},
		{context.DeadlineExceeded, true},
		{context.Canceled, false},
		{signer.NeedsOperator(fmt.Errorf("open: %w", signer.ErrUnavailable)), false},
		{fmt.Errorf("key: %w", signer.NeedsOperator(signer.ErrUnavailable)), false},
		{fmt.Errorf("%w: %w", signer.ErrUnavailable, signer.ErrInvalid), false},
		{signer.ErrNotFound, false},
		{io.EOF, false},
	}

	for _, tt := range tests {
		if got := signer.Passing(tt.err); got != tt.want {
			t.Errorf("Passing(%v) = %t, want %t", tt.err, got, tt.want)
		}
	}
	if err := signer.NeedsOperator(signer.ErrUnavailable); !errors.Is(err, signer.ErrUnavailable) || err.Error() != "unavailable" {
		t.Errorf("NeedsOperator() = %v, want the error that was marked", err)
	}
}
