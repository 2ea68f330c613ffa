package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"signetd/daemon/api"
)

// hangUp sends SIGHUP and waits until the reload is over.
func (p *process) hangUp() {
	p.t.Helper()
	seen, _ := p.notes.all()
	ready := 0
	for _, note := range seen {
		if note == "READY=1" {
			ready++
		}
	}
	p.signal(syscall.SIGHUP)
	p.awaitReady(ready + 1)
}

func (p *process) reload() answer {
	p.t.Helper()
	return p.do(http.MethodPost, api.ReloadConfig.Path, "{}")
}

func TestE2EReload(t *testing.T) {
	t.Run("by signal", func(t *testing.T) { testReload(t, (*process).hangUp) })
	t.Run("by request", func(t *testing.T) {
		testReload(t, func(p *process) { decode[api.Reloaded](t, "reload", p.reload()) })
	})
}

func testReload(t *testing.T, reload func(*process)) {
	s := newSettings(t).oneKey()
	p := start(t, s)
	p.do(http.MethodPost, api.SignJWT.Path, signRequest("rsa").Body).wantError(t, http.StatusForbidden, "denied")

	s.keys += rsaKey
	s.grants += "\n  - {peer: {user: $uid}, ops: [sign-jwt], keys: [rsa]}"
	s.write(t)
	reload(p)
	p.sign("rsa", "PS256")
	p.sign("oidc", "")

	s.grants = strings.Replace(s.grants, "[oidc]", "[rsa]", 1)
	s.write(t)
	reload(p)
	p.do(http.MethodPost, api.SignJWT.Path, signRequest("oidc").Body).wantError(t, http.StatusForbidden, "denied")
	p.sign("rsa", "RS256")

	ok := 0
	for _, r := range s.records(t) {
		if r.Op == "reload" && r.Outcome == "ok" {
			ok++
		}
	}
	if ok != 2 {
		t.Errorf("%d records of a reload, want 2", ok)
	}
}

// A refused reload gives the reason, has an audit record, and changes nothing.
func TestE2EReloadRefused(t *testing.T) {
	s := newSettings(t).oneKey()
	p := start(t, s)
	config := s.path("signetd.yaml")
	good := readFile(t, config)
	tests := []struct{ name, text, code, words string }{
		{"not YAML", "{", "invalid", "signetd.yaml"},
		{"empty", "", "invalid", "signetd.yaml"},
		{"an unknown field", good + "colour: red\n", "invalid", "colour"},
		{"a key that is not there", strings.Replace(good, shared.refs["oidc"], "pkcs11:object=oicd", 1), "", `key "oidc"`},
		{"a grant on an unknown key", strings.Replace(good, "keys: [oidc]", "keys: [oicd]", 1), "invalid", "oicd"},
		{"a grant that goes round the claim policy", strings.Replace(good, "[sign-jwt, verify]", "[sign-digest]", 1), "invalid", "bypass_claim_policy"},
		{"a PIN in a ref", strings.Replace(good, shared.refs["oidc"], "pkcs11:object=oidc?pin-value=topsecret", 1), "invalid", "pin_file"},
		{"another socket", strings.Replace(good, "s.sock", "t.sock", 1), "invalid", "restart"},
		{"other limits", strings.Replace(good, "connections: 256", "connections: 255", 1), "invalid", "restart"},
		{"another audit log", strings.Replace(good, "audit.jsonl", "other.jsonl", 1), "invalid", "restart"},
		{"an unknown token", strings.Replace(good, `token: "e2e"`, `token: "isuer"`, 1), "unavailable", "isuer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.text == good {
				t.Fatal("the config was not changed")
			}
			writeFile(t, config, tt.text)
			a := p.reload()
			status := map[string]int{"invalid": 400, "unavailable": 503, "not_found": 404}
			for code, n := range status {
				if a.status == n && (tt.code == "" || tt.code == code) {
					if msg := a.wantError(t, n, code); !strings.Contains(msg, tt.words) || strings.Contains(msg, "topsecret") {
						t.Errorf("message %q, want one with %q", msg, tt.words)
					}
					a.status = 0
				}
			}
			if a.status != 0 {
				t.Errorf("answer %d %s, want code %s", a.status, a.body, tt.code)
			}

			p.hangUp()
			list := s.records(t)
			for _, r := range list[len(list)-2:] {
				if r.Op != "reload" || r.Outcome == "ok" {
					t.Errorf("record %+v, want a reload that was refused", r)
				}
			}
			p.sign("oidc", "")
		})
	}

	if !strings.Contains(p.stderr.String(), "reload refused") {
		t.Error("the log does not say so")
	}
	writeFile(t, config, good)
	decode[api.Reloaded](t, "reload", p.reload())
}

// No request fails during twenty reloads under load.
func TestE2EReloadUnderLoad(t *testing.T) {
	s := newSettings(t).oneKey()
	s.limits = `{connections: 256, per_peer: 64}`
	s.log = `{level: info}`
	p := start(t, s)
	clients := s.loop(16)
	for i := range 20 {
		clients.await(t, 20)
		if i%2 == 0 {
			decode[api.Reloaded](t, "reload", p.reload())
		} else {
			p.hangUp()
		}
	}

	clients.await(t, 100)
	close(clients.quit)
	clients.end(t, s)
}
