package daemon

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"signetd/daemon/api"
	"signetd/daemon/policy"
	"signetd/signer"
)

// A wavering key is one whose backend goes away and comes back.
type wavering struct {
	signer.Signer
	away atomic.Bool
}

func (k *wavering) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k.away.Load() {
		return nil, fmt.Errorf("memory: %w", signer.ErrUnavailable)
	}
	return k.Signer.SignContext(ctx, digest, opts)
}

// unseen is a version that no backend has opened.
func unseen(t *testing.T, alg signer.Alg, from time.Time) *signer.Version {
	t.Helper()
	algs := []signer.Alg{alg}
	v, err := signer.NewVersion(nil, signer.VersionConfig{Algs: algs, Places: []signer.PlaceConfig{{Backend: "memory"}}, NotBefore: from})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// withMore has the fixture serve its setup with a further version of a key.
func (f *fixture) withMore(t *testing.T, name string, more *signer.Version) {
	t.Helper()
	keys := f.setup.Ring.Keys()
	for i := range keys {
		if keys[i].Name == name {
			keys[i].Versions = append(keys[i].Versions[:1:1], more)
		}
	}
	ring, err := signer.NewRing(keys)
	if err != nil {
		t.Fatal(err)
	}
	f.service.generations.current.Load().ring.Store(ring)
}

// While the active version's backend is away the one before it signs, and says so by
// its kid; a request that names a version gets that one or none.
func TestSignWhileAway(t *testing.T) {
	f := serve(t, Limits{})
	key, err := openSoftware(t).OpenKey(t.Context(), "generate:ec-p256")
	if err != nil {
		t.Fatal(err)
	}
	k := &wavering{Signer: key.(signer.Signer)}
	v, err := signer.NewVersion(k, signer.VersionConfig{Algs: []signer.Alg{signer.ES256}, Places: []signer.PlaceConfig{{Backend: "memory"}}, NotBefore: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	f.withMore(t, "oidc", v)
	sign := func() (kid string) {
		status, body := f.do(t, http.MethodPost, api.SignJWT.Path, `{"key":"oidc","claims":{"aud":"api"}}`)
		var a api.SignJWTResponse
		if err := json.Unmarshal([]byte(body), &a); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s %v", status, body, err)
		}
		return a.KID
	}
	if kid := sign(); kid != v.KID() {
		t.Errorf("signed by %q, want the active %q", kid, v.KID())
	}
	k.away.Store(true)
	old := sign()
	if old == v.KID() {
		t.Error("signed by a version whose backend is away")
	}
	k.away.Store(false)
	for late := time.Now().Add(20 * time.Second); sign() != v.KID(); {
		if time.Now().After(late) {
			t.Fatal("the active version did not come back")
		}
	}
	records, err := os.ReadFile(f.audit)
	if err != nil {
		t.Fatal(err)
	}
	data := string(records)
	if n := strings.Count(data, `"kid":"`+old+`"`); n == 0 || strings.Contains(data, `"outcome":"unavailable"`) {
		t.Errorf("the audit log has the old kid %d times:\n%s", n, data)
	}
}

// A kid that may be that of a version not seen yet is unavailable, and what is certain is
// answered as ever.
func TestUnseen(t *testing.T) {
	f := serve(t, Limits{})
	since := time.Now().Add(-time.Hour)
	_, body := f.do(t, http.MethodPost, api.EncryptJWE.Path, `{"key":"inbox","plaintext":"aGVsbG8"}`)
	var sealed api.EncryptJWEResponse
	if err := json.Unmarshal([]byte(body), &sealed); err != nil {
		t.Fatal(err)
	}
	stranger, err := openSoftware(t).OpenKey(t.Context(), "generate:rsa-2048")
	if err != nil {
		t.Fatal(err)
	}
	encrypt := func(kid string) string {
		jwe, err := signer.EncryptJWE(stranger.Public(), kid, signer.RSAOAEP256, "", signer.Header{}, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		return jwe
	}
	parts := strings.Split(sealed.JWE, ".")
	spoilt := strings.Join(append(parts[:4:4], "AAAAAAAAAAAAAAAAAAAAAA"), ".")
	known, theirs, nameless := sealed.JWE, encrypt("who"), encrypt("")
	decrypt := func(jwe string) [2]string { return [2]string{api.DecryptJWE.Path, `{"jwe":"` + jwe + `"}`} }
	unwrap := func(member string) [2]string {
		return [2]string{api.UnwrapCEK.Path, `{` + member + `,"alg":"RSA-OAEP-256","encrypted_key":"` + parts[1] + `"}`}
	}
	tests := []struct {
		name           string
		request        [2]string
		before, during string
	}{
		{"a JWE that opens", decrypt(known), "ok", "ok"},
		{"one that is spoilt", decrypt(spoilt), "decrypt_failed", "decrypt_failed"},
		{"one with an unknown kid", decrypt(theirs), "decrypt_failed", "unavailable"},
		{"one without a kid", decrypt(nameless), "decrypt_failed", "unavailable"},
		{"unwrap with the active version", unwrap(`"key":"inbox"`), "ok", "unavailable"},
		{"unwrap with a kid", unwrap(`"kid":"` + sealed.KID + `"`), "ok", "ok"},
		{"unwrap with an unknown kid", unwrap(`"kid":"who"`), "denied", "unavailable"},
		{"unwrap with a key and an unknown kid", unwrap(`"key":"inbox","kid":"who"`), "not_found", "unavailable"},
		{"encrypt", [2]string{api.EncryptJWE.Path, `{"key":"inbox","plaintext":"aGVsbG8"}`}, "ok", "ok"},
		{"sign", [2]string{api.SignJWT.Path, `{"key":"oidc","claims":{"aud":"api"}}`}, "ok", "ok"},
		{"verify with an unknown kid", [2]string{api.VerifyJWT.Path, `{"token":"eyJhbGciOiJFUzI1NiIsImtpZCI6IngifQ.e30.AAAA"}`}, "invalid", "unavailable"},
	}
	run := func(when string, want func(i int) string) {
		t.Helper()
		for i, tt := range tests {
			status, body := f.do(t, http.MethodPost, tt.request[0], tt.request[1])
			code := "ok"
			if status != http.StatusOK {
				code = errorCode(t, body)
			}
			if code != want(i) {
				t.Errorf("%s, %s: %d %s, want %s", when, tt.name, status, body, want(i))
			}
		}
	}
	run("before", func(i int) string { return tests[i].before })
	f.withMore(t, "inbox", unseen(t, signer.RSAOAEP256, since))
	run("only the inbox", func(i int) string {
		if tests[i].request[0] == api.VerifyJWT.Path {
			return tests[i].before // of another key
		}
		return tests[i].during
	})
	f.withMore(t, "oidc", unseen(t, signer.ES256, since))
	status, body := f.do(t, http.MethodPost, tests[10].request[0], tests[10].request[1])
	if code := errorCode(t, body); code != "unavailable" {
		t.Errorf("verify: %d %s", status, body)
	}
}

// A peer hears of missing versions of its own keys only, and how many there are.
func TestReadyNamesNoKeys(t *testing.T) {
	f := serve(t, Limits{})
	if status, body := f.do(t, http.MethodGet, api.GetReady.Path, ""); status != http.StatusOK || body != "{\"ready\":true,\"backends\":{\"memory\":\"ok\"}}\n" {
		t.Errorf("ready: %d %s", status, body)
	}
	f.withMore(t, "oidc", unseen(t, signer.ES256, time.Now().Add(time.Hour)))
	mine := f.service.Ready(t.Context(), me())
	if !mine.Ready || mine.MissingVersions != 1 || len(mine.Missing) != 1 || mine.Missing[0].Key != "oidc" || mine.Missing[0].NotBefore == nil {
		t.Errorf("Ready() = %+v", mine)
	}
	theirs := f.service.Ready(t.Context(), policy.Peer{UID: me().UID + 1, GID: me().GID + 1})
	if !theirs.Ready || theirs.MissingVersions != 1 || theirs.Missing != nil {
		t.Errorf("Ready() for a peer without grants = %+v", theirs)
	}
	_, body := f.do(t, http.MethodGet, api.ListKeys.Path+"/oidc", "")
	if !strings.Contains(body, `"state":"missing"`) || !strings.Contains(body, `"state":"ok"`) {
		t.Errorf("the key: %s", body)
	}
}

// Finish runs while its setup is the current one, and its rings are served at once.
func TestFinish(t *testing.T) {
	f := serve(t, Limits{})
	rings, ended := make(chan *signer.Ring), make(chan struct{})
	late := newSetup(t, openSoftware(t), f.metrics)
	full := late.Ring
	var err error
	if late.Ring, err = signer.NewRing([]signer.NamedKey{{Name: "oidc", Versions: []*signer.Version{unseen(t, signer.ES256, time.Time{})}}}); err != nil {
		t.Fatal(err)
	}
	late.Finish = func(ctx context.Context, swap func(*signer.Ring)) {
		defer close(ended)
		swap(<-rings)
		rings <- nil
		<-ctx.Done()
	}
	f.service.Swap(late)
	const request = `{"key":"oidc","claims":{"aud":"api"}}`
	if status, body := f.do(t, http.MethodPost, api.SignJWT.Path, request); status != http.StatusServiceUnavailable || errorCode(t, body) != "unavailable" {
		t.Errorf("before: %d %s", status, body)
	}
	if r := f.service.Ready(t.Context(), me()); r.Ready {
		t.Error("ready, though a key has nothing that can be used")
	}
	rings <- full
	<-rings
	if status, body := f.do(t, http.MethodPost, api.SignJWT.Path, request); status != http.StatusOK {
		t.Errorf("after: %d %s", status, body)
	}
	select {
	case <-ended:
		t.Error("ended before its time")
	default:
	}
	f.service.Swap(newSetup(t, openSoftware(t), f.metrics))
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("Finish outlives its setup")
	}
}
