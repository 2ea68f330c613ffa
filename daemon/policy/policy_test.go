package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

func id(n uint32) *uint32 { return &n }

var rules = &policy.JWT{Issuer: "https://id.example", Audiences: []string{"api", "web"}, MaxTTL: 15 * time.Minute, Typ: "at+jwt"}

var keys = []policy.Key{
	{Name: "oidc", Use: signer.UseSig, JWT: rules},
	{Name: "free", Use: signer.UseSig},
	{Name: "inbox", Use: signer.UseEnc},
}

func TestCheck(t *testing.T) {
	p, err := policy.New(keys, []policy.Grant{
		{Peer: policy.Match{UID: id(1000)}, Ops: []api.Op{api.OpSignJWT}, Keys: []string{"oidc"}},
		{Peer: policy.Match{GID: id(50)}, Ops: []api.Op{api.OpDecrypt, api.OpEncrypt}, Keys: []string{"inbox"}},
		{Peer: policy.Match{UID: id(1001)}, Ops: []api.Op{api.OpReload, api.OpList}, Keys: []string{"free"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	issuer := policy.Peer{UID: 1000, GID: 1000}
	tests := []struct {
		name  string
		peer  policy.Peer
		op    api.Op
		key   string
		allow bool
	}{
		{"granted", issuer, api.OpSignJWT, "oidc", true},
		{"another op", issuer, api.OpSignDigest, "oidc", false},
		{"another key", issuer, api.OpSignJWT, "free", false},
		{"unknown key", issuer, api.OpSignJWT, "nope", false},
		{"no key", issuer, api.OpSignJWT, "", false},
		{"list by another grant", issuer, api.OpList, "oidc", true},
		{"list without a grant", issuer, api.OpList, "inbox", false},
		{"another user", policy.Peer{UID: 1002, GID: 1000}, api.OpSignJWT, "oidc", false},
		{"gid is no uid", policy.Peer{UID: 50, GID: 1000}, api.OpDecrypt, "inbox", false},
		{"uid is no gid", policy.Peer{UID: 5, GID: 1000, Groups: []uint32{1000}}, api.OpSignJWT, "oidc", false},
		{"primary group", policy.Peer{UID: 7, GID: 50}, api.OpDecrypt, "inbox", true},
		{"supplementary group", policy.Peer{UID: 7, GID: 7, Groups: []uint32{8, 50}}, api.OpEncrypt, "inbox", true},
		{"root", policy.Peer{}, api.OpSignJWT, "oidc", false},
		{"reload", policy.Peer{UID: 1001}, api.OpReload, "", true},
		{"reload without a grant", issuer, api.OpReload, "", false},
		{"list", policy.Peer{UID: 1001}, api.OpList, "free", true},
		{"list is no use", policy.Peer{UID: 1001}, api.OpSignJWS, "free", false},
		{"reload with a key", policy.Peer{UID: 1001}, api.OpReload, "free", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := p.Check(tt.peer, tt.op, tt.key)
			if (err == nil) != tt.allow || (err != nil && !errors.Is(err, signer.ErrDenied)) {
				t.Errorf("Check() = %v, want allowed = %v", err, tt.allow)
			}
			if got := slices.Contains(p.Keys(tt.peer, tt.op), tt.key); tt.key != "" && got != tt.allow {
				t.Errorf("Keys() holds %q = %v, want %v", tt.key, got, tt.allow)
			}
		})
	}
}

// TestCheckTellsNothing: the answer is the same for a key without a grant and for a key
// that does not exist.
func TestCheckTellsNothing(t *testing.T) {
	p, err := policy.New(keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	there := p.Check(policy.Peer{UID: 1}, api.OpSignJWT, "oidc")
	not := p.Check(policy.Peer{UID: 1}, api.OpSignJWT, "none")
	if strings.ReplaceAll(there.Error(), "oidc", "none") != not.Error() {
		t.Errorf("a key that exists: %v; one that does not: %v", there, not)
	}
}

func TestNewRefuses(t *testing.T) {
	me := policy.Match{UID: id(1)}
	tests := []struct {
		name  string
		grant policy.Grant
		want  string
	}{
		{"no peer", policy.Grant{Ops: []api.Op{api.OpList}, Keys: []string{"oidc"}}, "peer"},
		{"two peers", policy.Grant{Peer: policy.Match{UID: id(1), GID: id(1)}, Ops: []api.Op{api.OpList}, Keys: []string{"oidc"}}, "peer"},
		{"no ops", policy.Grant{Peer: me, Keys: []string{"oidc"}}, "ops"},
		{"unknown op", policy.Grant{Peer: me, Ops: []api.Op{"sign"}, Keys: []string{"oidc"}}, "sign"},
		{"no keys", policy.Grant{Peer: me, Ops: []api.Op{api.OpSignJWT}}, "keys"},
		{"unknown key", policy.Grant{Peer: me, Ops: []api.Op{api.OpList}, Keys: []string{"x"}}, `"x"`},
		{"keys for reload", policy.Grant{Peer: me, Ops: []api.Op{api.OpReload}, Keys: []string{"oidc"}}, "keys"},
		{"sign with an enc key", policy.Grant{Peer: me, Ops: []api.Op{api.OpSignJWS}, Keys: []string{"inbox"}}, "enc"},
		{"decrypt with a sig key", policy.Grant{Peer: me, Ops: []api.Op{api.OpDecrypt}, Keys: []string{"free"}}, "sig"},
		{"sign-jwt without rules", policy.Grant{Peer: me, Ops: []api.Op{api.OpSignJWT}, Keys: []string{"free"}}, "jwt block"},
		{"verify without rules", policy.Grant{Peer: me, Ops: []api.Op{api.OpVerify}, Keys: []string{"free"}}, "jwt block"},
		{"free payload past the rules", policy.Grant{Peer: me, Ops: []api.Op{api.OpSignJWS}, Keys: []string{"oidc"}}, "bypass_claim_policy"},
		{"digest past the rules", policy.Grant{Peer: me, Ops: []api.Op{api.OpSignDigest}, Keys: []string{"oidc"}}, "bypass_claim_policy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.New(keys, []policy.Grant{tt.grant})
			var bad *policy.Error
			if !errors.As(err, &bad) || !errors.Is(err, signer.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New() = %v, want an *Error with %q", err, tt.want)
			}
		})
	}

	g := policy.Grant{Peer: me, Ops: []api.Op{api.OpSignJWS, api.OpSignDigest}, Keys: []string{"oidc"}, BypassClaimPolicy: true}
	if _, err := policy.New(keys, []policy.Grant{g}); err != nil {
		t.Errorf("New() with bypass_claim_policy = %v", err)
	}
}

// TestCheckEmptyName: a grant on a key with an empty name does not allow the operation
// without a key.
func TestCheckEmptyName(t *testing.T) {
	p, err := policy.New([]policy.Key{{Use: signer.UseSig}}, []policy.Grant{{Peer: policy.Match{UID: id(1)}, Ops: []api.Op{api.OpSignJWS}, Keys: []string{""}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(policy.Peer{UID: 1}, api.OpSignJWS, ""); !errors.Is(err, signer.ErrDenied) {
		t.Errorf("Check(no key) = %v, want ErrDenied", err)
	}
}

// FuzzCheck makes grants and a request from any bytes. Its oracle, means, is a second
// implementation of what a grant allows. In it a claim policy is bypassed only by a grant
// with BypassClaimPolicy, whatever New accepts.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 1, 0, 0, 0})
	f.Add([]byte{1, 2, 3, 1, 2, 3, 0, 1, 2, 0, 1, 0, 2, 1, 1, 2})
	ops := []api.Op{
		api.OpSignJWT, api.OpSignJWS, api.OpSignDigest, api.OpVerify, api.OpDecrypt, api.OpUnwrap,
		api.OpEncrypt, api.OpList, api.OpEncryptJWK, api.OpReload, "none",
	}
	names := []string{"oidc", "free", "inbox", "unknown", ""}
	f.Fuzz(func(t *testing.T, data []byte) {
		next := func(n int) int {
			if len(data) == 0 {
				return 0
			}
			b := int(data[0]) % n
			data = data[1:]
			return b
		}
		peer := policy.Peer{UID: uint32(next(4)), GID: uint32(next(4)), Groups: []uint32{uint32(next(4))}}
		op, key := ops[next(len(ops))], names[next(len(names))]

		var grants []policy.Grant
		for len(data) > 0 {
			g := policy.Grant{Ops: []api.Op{ops[next(len(ops))], ops[next(len(ops))]}, BypassClaimPolicy: next(2) == 1}
			if n := uint32(next(4)); next(2) == 0 {
				g.Peer.UID = &n
			} else {
				g.Peer.GID = &n
			}
			if next(3) > 0 {
				g.Keys = []string{names[next(len(names))]}
			}
			grants = append(grants, g)
		}

		p, err := policy.New(keys, grants)
		if err != nil {
			return
		}

		want := slices.ContainsFunc(grants, func(g policy.Grant) bool { return means(g, peer, op, key) })
		if got := p.Check(peer, op, key) == nil; got != want {
			t.Fatalf("Check(%+v, %s, %q) under %+v allows = %v, want %v", peer, op, key, grants, got, want)
		}

		var all []string // the keys that the grants allow
		for _, name := range names {
			if name != "" && slices.ContainsFunc(grants, func(g policy.Grant) bool { return means(g, peer, op, name) }) {
				all = append(all, name)
			}
		}
		got := p.Keys(peer, op)
		if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(all))) || p.AllowsAny(peer, op) != (len(all) > 0) {
			t.Fatalf("Keys(%+v, %s) under %+v = %q, AllowsAny() = %v; want %q", peer, op, grants, got, p.AllowsAny(peer, op), all)
		}
	})
}

// means reports whether g allows peer to do op on key.
func means(g policy.Grant, peer policy.Peer, op api.Op, key string) bool {
	isPeer := g.Peer.UID != nil && *g.Peer.UID == peer.UID
	if g.Peer.GID != nil {
		isPeer = *g.Peer.GID == peer.GID || slices.Contains(peer.Groups, *g.Peer.GID)
	}

	onHost := op == api.OpReload || op == api.OpEncryptJWK
	hasOp := slices.Contains(g.Ops, op)
	switch {
	case !isPeer || op == "none":
		return false
	case onHost:
		return hasOp && key == ""
	case !slices.Contains(g.Keys, key):
		return false
	case op == api.OpList:
		return true
	case key == "oidc" && (op == api.OpSignJWS || op == api.OpSignDigest):
		return hasOp && g.BypassClaimPolicy
	default:
		return hasOp
	}
}
