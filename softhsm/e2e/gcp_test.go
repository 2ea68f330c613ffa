package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"signetd/backends/gcpkms/gcpkmstest"
	"signetd/daemon/api"
	"signetd/signer"
)

// google is settings in which the versions of the key oidc are in a fake Google Cloud KMS.
type google struct {
	*settings
	kms *gcpkmstest.Server
	key string // the CryptoKey
}

// newGoogle returns them. members are added to the backend, such as "rate: 300, ".
func newGoogle(t *testing.T, members string) *google {
	t.Helper()
	g := &google{settings: newSettings(t).oneKey(), kms: gcpkmstest.New(t)}
	g.key = g.kms.CreateKey("oidc", kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
	g.backends = fmt.Sprintf("\n  - {name: gcp, gcpkms: {%sendpoint: %q, plaintext: true, attempt_timeout: 400ms}}", members, g.kms.Endpoint())
	g.keys = strings.Replace(oidcKey, `{backend: hsm, ref: "$oidc"}`, fmt.Sprintf(`{backend: gcp, ref: "gcpkms:///%s"}`, g.key), 1)
	g.log = `{level: info}`
	g.metrics = `{listen: "$dir/m.sock"}`
	return g
}

// attempts returns the number of calls that the daemon made to the service.
func (p *process) attempts() float64 {
	p.t.Helper()
	return p.count(`signetd_cloud_attempts_total{backend="gcp"}`)
}

// Faults of the service reach the issuer, the audit log and the metrics under one code.
// None of them gives a token.
func TestE2EGoogleFaults(t *testing.T) {
	g := newGoogle(t, "")
	version := g.kms.CreateVersion(g.key)
	p := start(t, g.settings)
	p.sign("oidc", "")
	tests := []struct {
		kind     gcpkmstest.Kind
		status   int
		code     string
		attempts float64
		most     time.Duration
	}{
		{gcpkmstest.Throttle, http.StatusTooManyRequests, "overloaded", 1, time.Second},
		{gcpkmstest.Unavailable, http.StatusServiceUnavailable, "unavailable", 3, time.Second},
		{gcpkmstest.Internal, http.StatusServiceUnavailable, "unavailable", 3, time.Second},
		{gcpkmstest.Hang, http.StatusServiceUnavailable, "unavailable", 3, 3*400*time.Millisecond + time.Second},
		{gcpkmstest.WrongCRC, http.StatusServiceUnavailable, "unavailable", 3, time.Second},
		{gcpkmstest.NotVerified, http.StatusServiceUnavailable, "unavailable", 3, time.Second},
		{gcpkmstest.WrongName, http.StatusServiceUnavailable, "unavailable", 3, time.Second},
		{gcpkmstest.WrongLevel, http.StatusServiceUnavailable, "unavailable", 3, time.Second},
		{gcpkmstest.Empty, http.StatusServiceUnavailable, "unavailable", 3, time.Second},
		{gcpkmstest.AnotherKey, http.StatusInternalServerError, "internal", 1, time.Second},
		{gcpkmstest.FlippedBit, http.StatusInternalServerError, "internal", 1, time.Second},
		{gcpkmstest.Disable, http.StatusServiceUnavailable, "unavailable", 1, time.Second},
		{gcpkmstest.Unauthenticated, http.StatusServiceUnavailable, "unavailable", 1, time.Second},
		{gcpkmstest.Denied, http.StatusServiceUnavailable, "unavailable", 1, time.Second},
	}
	for _, tt := range tests {
		t.Run(string(tt.kind), func(t *testing.T) {
			g.kms.Inject(gcpkmstest.Fault{Method: "AsymmetricSign", Kind: tt.kind, Times: -1})
			before, began := p.attempts(), time.Now()
			a := p.do(http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body)
			took := time.Since(began)
			message := a.wantError(t, tt.status, tt.code)
			if n := p.attempts() - before; n != tt.attempts || took > tt.most {
				t.Errorf("%v attempts in %v, want %v in %v at most", n, took, tt.attempts, tt.most)
			}

			retry := a.header.Get("Retry-After")
			if retries := tt.status == http.StatusTooManyRequests || tt.status == http.StatusServiceUnavailable; retries != (retry != "") {
				t.Errorf("Retry-After is %q with status %d", retry, tt.status)
			}
			list := p.records(t)
			if last := list[len(list)-1]; last.Op != "sign-jwt" || last.Outcome != tt.code || last.Key != "oidc" {
				t.Errorf("the last audit record is %+v, want sign-jwt and %s", last, tt.code)
			}

			if h := get[api.Health](p, api.GetHealth.Path); h.Status != "ok" {
				t.Errorf("health is %q", h.Status)
			}
			t.Logf("%d %s, Retry-After %q, after %v: %s", a.status, tt.code, retry, took.Round(time.Millisecond), message)

			g.kms.Heal()
			g.kms.SetState(version, kmspb.CryptoKeyVersion_ENABLED)
			p.eventually("it signs again", func() bool {
				return p.do(http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body).status == http.StatusOK
			})
		})
	}

	if n := p.count(`signetd_cloud_throttled_total{backend="gcp"}`); n != 1 {
		t.Errorf("signetd_cloud_throttled_total is %v, want 1", n)
	}
}

// A new version beside the old one signs after a reload, and the JWKS has both. After the
// new one is disabled the JWKS has the old one alone, which signs again.
func TestE2EGoogleRotation(t *testing.T) {
	g := newGoogle(t, "")
	first := g.kms.CreateVersion(g.key)
	p := start(t, g.settings)
	old := p.sign("oidc", "").KID
	second := g.kms.CreateVersion(g.key)
	if kid := p.sign("oidc", "").KID; kid != old {
		t.Errorf("kid %s signs before the reload, want %s", kid, old)
	}

	post[api.Reloaded](p, api.ReloadConfig.Path, api.Reload{})
	now := p.sign("oidc", "").KID
	if set := get[signer.JWKSet](p, api.GetJWKS.Path); now == old || len(set.Keys) != 2 {
		t.Errorf("kid %s signs after the reload, before it was %s; %d keys in the JWKS, want 2", now, old, len(set.Keys))
	}

	g.kms.SetState(second, kmspb.CryptoKeyVersion_DISABLED)
	p.eventually("the older version signs", func() bool { return p.sign("oidc", "").KID == old })
	post[api.Reloaded](p, api.ReloadConfig.Path, api.Reload{})
	if set := get[signer.JWKSet](p, api.GetJWKS.Path); len(set.Keys) != 1 {
		t.Errorf("%d keys in the JWKS after one was disabled, want 1", len(set.Keys))
	}
	g.kms.SetState(first, kmspb.CryptoKeyVersion_DISABLED)
	p.do(http.MethodPost, api.ReloadConfig.Path, api.Reload{}).wantError(t, http.StatusServiceUnavailable, "unavailable")
}

// If Google is away at start, the daemon serves the version in the token and says that
// the other is missing. It signs with that one as soon as Google is back.
func TestE2EGoogleAwayAtStart(t *testing.T) {
	g := newGoogle(t, "")
	g.kms.CreateVersion(g.key)
	s := newSettings(t)
	g.backends = s.backends + g.backends
	g.keys = strings.Replace(g.keys, "versions: [", `versions: [{backend: hsm, ref: "$oidc"}, `, 1)
	g.kms.Inject(gcpkmstest.Fault{Kind: gcpkmstest.Unavailable, Times: -1})
	p := start(t, g.settings)
	old := p.sign("oidc", "").KID

	ready := p.do(http.MethodGet, api.GetReady.Path, nil)
	if text := string(ready.body); !strings.Contains(text, `"missing_versions"`) || !strings.Contains(text, `"gcp"`) {
		t.Errorf("/v1/ready is %d %s, and does not say what is missing", ready.status, text)
	}
	if text := p.stderr.String(); !strings.Contains(text, "version missing") || !strings.Contains(text, "Google Cloud KMS: Unavailable (3 attempts)") {
		t.Errorf("the log does not say what is missing and why:\n%s", text)
	}

	g.kms.Heal()
	p.eventually("Google's version signs", func() bool { return p.sign("oidc", "").KID != old })
	p.eventually("/v1/ready says that all is there", func() bool {
		text := string(p.do(http.MethodGet, api.GetReady.Path, nil).body)
		return strings.Contains(text, `"gcp":"ok"`) && !strings.Contains(text, `"missing_versions":1`)
	})
}

// A thousand requests a second reach a service that takes three hundred.
func TestE2EGoogleThrottled(t *testing.T) {
	for _, members := range []string{"", "rate: 300, "} {
		g := newGoogle(t, members)
		g.limits = `{connections: 256, in_flight: 256, per_peer: 256}`
		g.kms.CreateVersion(g.key)
		p := start(t, g.settings)
		g.kms.SetQuota(300)
		const seconds = 3
		var signed, refused, late atomic.Int64
		var running sync.WaitGroup

		clients := make(chan *http.Client, 64)
		for range cap(clients) {
			clients <- newClient(p.sock())
		}
		began := time.Now()
		for i := range seconds * 1000 {
			time.Sleep(time.Until(began.Add(time.Duration(i) * time.Millisecond)))
			client := <-clients
			running.Go(func() { // ends with the answer
				defer func() { clients <- client }()
				sent := time.Now()
				a, err := send(client, http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body)
				switch {
				case err != nil:
					t.Error(err)
				case a.status == http.StatusOK:
					signed.Add(1)
				case a.status == http.StatusTooManyRequests && wholeSeconds(a.header.Get("Retry-After")):
					refused.Add(1)
					if time.Since(sent) > 50*time.Millisecond {
						late.Add(1)
					}
				default:
					t.Errorf("%d %s", a.status, a.body)
				}
			})
		}

		running.Wait()
		took := time.Since(began)
		if h := get[api.Health](p, api.GetHealth.Path); h.Status != "ok" {
			t.Errorf("health is %q", h.Status)
		}
		rate, resident := float64(signed.Load())/took.Seconds(), p.count("process_resident_memory_bytes")/(1<<20)
		t.Logf("%q: %.0f signed a second, %d refused in %v, %d of them after more than 50ms; resident %.0f MiB",
			members, rate, refused.Load(), took.Round(time.Millisecond), late.Load(), resident)

		if rate < 200 || rate > 420 || refused.Load() == 0 { // the quota of a second may be spent at both ends of the measurement
			t.Errorf("%q: %.0f signed a second and %d refused; the service grants 300 a second", members, rate, refused.Load())
		}
		if !raceEnabled && (resident > 100 || late.Load() > refused.Load()/20) {
			t.Errorf("%q: %d of %d refusals took more than 50ms, and the daemon %.0f MiB; want one in twenty and 100 MiB at most", members, late.Load(), refused.Load(), resident)
		}

		if used := p.count(`signetd_cloud_quota_used{backend="gcp",class="crypto"}`); (members != "") != (used > 0) {
			t.Errorf("%q: signetd_cloud_quota_used is %v", members, used)
		}
		p.stop()
	}
}

func wholeSeconds(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 1
}
