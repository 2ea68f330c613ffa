package signer_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signetd/signer"
)

func TestRing(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC) }
	pairs := map[byte]signer.Key{'a': open(t, "generate:ec-p256"), 'b': open(t, "generate:ec-p256")}
	v := func(kid string, notBefore time.Time) *signer.Version {
		k := pairs[kid[0]]
		v, err := signer.NewVersion(k, signer.VersionConfig{KID: kid, Algs: []signer.Alg{signer.ES256}, NotBefore: notBefore})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}

	r, err := signer.NewRing([]signer.NamedKey{
		{Name: "a", Versions: []*signer.Version{v("a1", at(1)), v("a0", time.Time{}), v("a2", at(10)), v("a2b", at(10))}},
		{Name: "b", Versions: []*signer.Version{v("b1", at(5))}},
	})
	if err != nil {
		t.Fatal(err)
	}

	for day, want := range map[int]string{-100: "a0", 1: "a1", 9: "a1", 10: "a2", 30: "a2"} {
		if got, err := r.Active("a", at(day)); err != nil || got.KID() != want {
			t.Errorf("Active(a, day %d) = %v, %v; want %s", day, got, err, want)
		}
	}
	if _, err := r.Active("b", at(4)); !errors.Is(err, signer.ErrNotFound) {
		t.Errorf("Active(b) before its time = %v, want ErrNotFound", err)
	}
	if _, err := r.Active("c", at(4)); !errors.Is(err, signer.ErrNotFound) {
		t.Errorf("Active(c) = %v, want ErrNotFound", err)
	}
	if name, got, err := r.Version("a2b"); err != nil || name != "a" || got.KID() != "a2b" {
		t.Errorf("Version(a2b) = %s, %v, %v", name, got, err)
	}
	if _, _, err := r.Version("x"); !errors.Is(err, signer.ErrNotFound) {
		t.Errorf("Version(x) = %v, want ErrNotFound", err)
	}
	var kids []string
	for _, jwk := range r.JWKS("b", "a", "c").Keys {
		kids = append(kids, jwk.KeyID)
	}
	if diff := cmp.Diff([]string{"a1", "a0", "a2", "a2b", "b1"}, kids); diff != "" {
		t.Errorf("JWKS() (-want +got):\n%s", diff)
	}
	if data, err := json.Marshal(r.JWKS()); err != nil || string(data) != `{"keys":[]}` {
		t.Errorf("JWKS() of no key = %s, %v", data, err)
	}
}

func TestRingRefuses(t *testing.T) {
	k := open(t, "generate:ec-p256")
	v := func(kid string) *signer.Version {
		v, err := signer.NewVersion(k, signer.VersionConfig{KID: kid, Algs: []signer.Alg{signer.ES256}})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}

	rs := version(t, "generate:rsa-2048", signer.RS256)
	tests := map[string][]signer.NamedKey{
		"no versions":    {{Name: "a"}},
		"no name":        {{Versions: []*signer.Version{v("1")}}},
		"a name twice":   {{Name: "a", Versions: []*signer.Version{v("1")}}, {Name: "a", Versions: []*signer.Version{v("2")}}},
		"a kid twice":    {{Name: "a", Versions: []*signer.Version{v("1")}}, {Name: "b", Versions: []*signer.Version{v("1")}}},
		"a pair twice":   {{Name: "a", Versions: []*signer.Version{v("1")}}, {Name: "b", Versions: []*signer.Version{v("2")}}},
		"mixed versions": {{Name: "a", Versions: []*signer.Version{v("1"), rs}}},
	}

	for name, keys := range tests {
		if _, err := signer.NewRing(keys); !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("%s: NewRing() = %v, want ErrInvalid", name, err)
		}
	}
}
