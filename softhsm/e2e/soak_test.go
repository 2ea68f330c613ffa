package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signetd/daemon/api"
	"signetd/softhsm"
)

const (
	soakClients = 8
	soakGrowth  = 8 << 10 // KiB by which the daemon may grow
	// soakValid: one request of this many is valid, and must be served.
	soakValid = 64
	// soakUnwraps: one of this many of the others goes to /v1/cek/unwrap.
	soakUnwraps = 8
)

// setting returns a number from the environment, where `make soak` sets it, or otherwise.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is not a number above 0", name, text)
	}
	return n
}

// A soak is a flood of ciphertexts that do not decrypt.
type soak struct {
	t      *testing.T
	p      *process
	good   []string     // a JWE for each alg and enc
	keys   [][2]string  // alg and encrypted key, in base64url, of a CEK of 32 bytes
	want   string       // the one answer, without its request id
	sent   atomic.Int64 // of all kinds
	opened atomic.Int64 // valid ones
	failed atomic.Int64 // refused ones
	stop   atomic.Bool
}

// TestE2ESoak sends 50,000 random and mutated ciphertexts, a million in `make
// soak` (SOAK_COUNT), to a real daemon before a real token. All get the
// same bytes as an answer, but for the request id. The daemon does not grow, and neither
// logs in again nor initialises the module again.
func TestE2ESoak(t *testing.T) {
	count := setting(t, "SOAK_COUNT", 50_000)
	if testing.Short() {
		count = 5000
	}
	s := newSettings(t)
	var err error
	if s.binary, err = softhsm.Signetd(); err != nil { // without the race detector, whose memory grows
		t.Fatal(err)
	}
	s.log = `{level: warn}`
	s.limits = `{connections: 256, refusals: 1000000, timeout: 60s}` // the machine may be busy
	s.metrics = `{listen: "$dir/m.sock"}`
	p := start(t, s)
	k := &soak{t: t, p: p}
	k.prepare()
	seed := uint64(time.Now().UnixNano()) // #nosec G115 -- a seed
	t.Logf("seed %d", seed)

	began := time.Now()
	var wg sync.WaitGroup
	for client := range soakClients {
		m := newMutator(t, p, seed+uint64(client))       // #nosec G115 -- small
		wg.Go(func() { k.client(m, count/soakClients) }) // ends after its share
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }() // ends with the clients
	memory := k.watch(done, int64(count))
	took := time.Since(began)

	metrics := p.readMetrics(s.path("m.sock"))
	for name, want := range map[string]string{"repairs_total": "0", "restarts_total": "0", "logins_total": "1", "down": "0", "abandoned_total": "0"} {
		if got := value(t, metrics, `signetd_pkcs11_`+name+`{backend="hsm"}`); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	reached := value(t, metrics, `signetd_backend_seconds_count{backend="hsm",outcome="ok",use="enc"}`)
	if n, err := strconv.Atoi(reached); err != nil || n < count/4 {
		t.Errorf("%s requests reached the token, want a quarter of all or more", reached)
	}
	t.Logf("%d requests in %v (%.0f a second): %d refused with one answer, %d valid ones opened, %s reached the token; resident memory %s",
		k.sent.Load(), took.Round(time.Millisecond), float64(k.sent.Load())/took.Seconds(), k.failed.Load(), k.opened.Load(), reached, memory)
}

// prepare makes the valid requests, and reads the answer that all others must get.
func (k *soak) prepare() {
	t, p := k.t, k.p
	t.Helper()
	inbox := p.publicKey("inbox")
	for _, alg := range []jose.KeyAlgorithm{jose.RSA_OAEP, jose.RSA_OAEP_256} {
		for _, enc := range encs {
			k.good = append(k.good, compact(t, seal(t, inbox, alg, enc, []byte("attack at dawn"), nil)))
		}
		parts := bytes.Split([]byte(compact(t, seal(t, inbox, alg, jose.A256GCM, nil, nil))), []byte("."))
		k.keys = append(k.keys, [2]string{string(alg), string(parts[1])})
	}
	a := p.do(http.MethodPost, api.DecryptJWE.Path, `{"jwe":"a.b.c.d.e"}`)
	a.wantError(t, http.StatusUnprocessableEntity, "decrypt_failed")
	k.want = a.withoutID()
}

// client sends n requests. It stops at the first wrong answer.
func (k *soak) client(m *mutator, n int) {
	c := newClient(k.p.sock())
	defer c.CloseIdleConnections()
	for i := 0; i < n && !k.stop.Load(); i++ {
		err := k.request(c, m, i)
		k.sent.Add(1)
		if err != nil {
			k.stop.Store(true)
			k.t.Error(err)
		}
	}
}

func (k *soak) request(c *http.Client, m *mutator, i int) error {
	if i%soakValid == 0 {
		return k.valid(c, i/soakValid)
	}
	path, what := api.DecryptJWE.Path, ""
	var body any
	if i%soakUnwraps == 1 {
		path, what = api.UnwrapCEK.Path, "an encrypted key"
		body = api.UnwrapCEKRequest{Key: "inbox", Alg: m.one("RSA-OAEP", "RSA-OAEP-256"), EncryptedKey: m.encryptedKey()}
	} else {
		q := api.DecryptJWERequest{Key: m.one("", "inbox")}
		q.JWE, what = m.jwe()
		body = q
	}

	a, err := send(c, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	if a.status != http.StatusUnprocessableEntity || a.withoutID() != k.want {
		sent, _ := json.Marshal(body)
		return fmt.Errorf("%s, %s: %d %s, want %s\nsent: %s", path, what, a.status, a.body, k.want, sent)
	}

	k.failed.Add(1)
	return nil
}

// valid sends a request that must be served.
func (k *soak) valid(c *http.Client, i int) error {
	path, body, want := api.DecryptJWE.Path, fmt.Sprintf(`{"jwe":%q}`, k.good[i%len(k.good)]), `"plaintext":"`
	if i%4 == 0 {
		key := k.keys[i/4%len(k.keys)]
		path, body, want = api.UnwrapCEK.Path, fmt.Sprintf(`{"key":"inbox","alg":%q,"encrypted_key":%q}`, key[0], key[1]), `"cek":"`
	}
	a, err := send(c, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK || !bytes.Contains(a.body, []byte(want)) {
		return fmt.Errorf("%s, a valid one: %d %s", path, a.status, a.body)
	}

	k.opened.Add(1)
	return nil
}

// watch samples the daemon's memory until the flood ends. After a fifth of the requests,
// pools and heap have reached their size: from then on the daemon may exceed the maximum
// of that fifth by soakGrowth.
func (k *soak) watch(done <-chan struct{}, count int64) string {
	k.t.Helper()
	warm, most := 0, 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			now := k.p.rss()
			if k.sent.Load() < count/5 {
				warm = max(warm, now)
			}
			most = max(most, now)
			continue
		case <-done:
		}
		end := k.p.rss()
		if most-warm > soakGrowth {
			k.t.Errorf("the daemon grew from %d to %d KiB", warm, most)
		}
		return fmt.Sprintf("%d KiB warm, %d KiB at most, %d KiB at the end", warm, most, end)
	}
}
