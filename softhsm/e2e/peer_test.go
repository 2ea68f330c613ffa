package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// childPart is the environment variable that makes the test binary play a part and exit,
// instead of running tests: some tests need a process of another user, or one that has
// not initialised a module.
const childPart = "SIGNETD_E2E_PART"

// A childRequest is one request that a child sends.
type childRequest struct {
	Socket, Method, Path, Body string
}

// A childAnswer is an answer, or the error if there was none.
type childAnswer struct {
	Status int
	Body   string
	Err    string
}

// playChild plays a part and returns the exit code.
func playChild(part string) int {
	switch part {
	case "peer":
		return playPeer()
	case "flags":
		return playFlags(os.Args[1], os.Args[2])
	}
	return 2
}

// playPeer sends the requests of [process.asPeer].
func playPeer() int {
	var requests []childRequest
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var answers []childAnswer
	for _, r := range requests {
		a, err := send(newClient(r.Socket), r.Method, r.Path, r.Body)
		out := childAnswer{Status: a.status, Body: string(a.body)}
		if err != nil {
			out.Err = err.Error()
		}
		answers = append(answers, out)
	}

	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		return 1
	}
	return 0
}

// asPeer sends requests from a process with the given user and group. Only root can start
// one.
func (p *process) asPeer(cred *syscall.Credential, requests ...childRequest) []answer {
	p.t.Helper()
	for i := range requests {
		requests[i].Socket = p.sock()
	}
	input, err := json.Marshal(requests)
	if err != nil {
		p.t.Fatal(err)
	}

	cmd := exec.CommandContext(p.t.Context(), "/proc/self/exe") // the other user may have no access to the path of the binary
	cmd.Dir = "/"
	cmd.Env = []string{childPart + "=peer", raceOptions}
	cmd.Stdin = bytes.NewReader(input)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("peer: %v", err)
	}

	var answers []childAnswer
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(requests) {
		p.t.Fatalf("peer: %v: %s", err, out)
	}
	var list []answer
	for _, a := range answers {
		if a.Err != "" {
			p.t.Fatalf("peer: %s", a.Err)
		}
		list = append(list, answer{a.Status, http.Header{"Content-Type": {"application/json"}}, []byte(a.Body)})
	}
	return list
}

func signRequest(key string) childRequest {
	return childRequest{Method: http.MethodPost, Path: "/v1/jwt/sign", Body: fmt.Sprintf(`{"key":%q,"claims":{"aud":"api"}}`, key)}
}

var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

// The kernel's credentials of the peer, and the grants, decide what a peer may do. Without
// root the test cannot become another user. It then grants to another user, and is
// itself the peer without a grant.
func TestE2EPeers(t *testing.T) {
	if os.Getuid() != 0 {
		s := newSettings(t)
		s.grants = "\n  - {peer: {user: 1}, ops: [sign-jwt], keys: [oidc]}"
		p := start(t, s)
		p.do(http.MethodPost, "/v1/jwt/sign", signRequest("oidc").Body).wantError(t, http.StatusForbidden, "denied")
		t.Log("not root: peers of other users and groups were not tried")
		return
	}
	s := newSettings(t)
	s.socket = `{path: "$dir/s.sock", mode: "0666"}`
	s.grants = `
  - {peer: {user: 65534}, ops: [sign-jwt], keys: [oidc]}
  - {peer: {group: 4711}, ops: [sign-jwt], keys: [rsa]}
  - {peer: {user: 4712}, ops: [decrypt], keys: [inbox]}`
	p := start(t, s)

	t.Run("a grant is for its key and op alone", func(t *testing.T) {
		requests := []childRequest{
			signRequest("oidc"), signRequest("rsa"), signRequest("no-such-key"),
			{Method: http.MethodPost, Path: "/v1/jws/sign", Body: `{"key":"oidc","payload":"e30"}`},
			{Method: http.MethodPost, Path: "/v1/digest/sign", Body: `{"key":"oidc","alg":"ES256","digest":"e30"}`},
			{Method: http.MethodPost, Path: "/v1/jwt/verify", Body: `{"token":"a.b.c"}`},
			{Method: http.MethodPost, Path: "/v1/jwe/decrypt", Body: `{"jwe":"a.b.c.d.e"}`},
			{Method: http.MethodPost, Path: "/v1/jwe/decrypt", Body: `{"jwe":"a.b.c.d.e","key":"inbox"}`},
			{Method: http.MethodPost, Path: "/v1/cek/unwrap", Body: `{"key":"inbox","alg":"RSA-OAEP","encrypted_key":"e30"}`},
			{Method: http.MethodPost, Path: "/v1/jwe/encrypt", Body: `{"key":"inbox","plaintext":"e30"}`},
			{Method: http.MethodPost, Path: "/v1/admin/reload", Body: `{}`},
			{Method: http.MethodGet, Path: "/v1/keys/rsa"},
		}
		answers := p.asPeer(nobody, requests...)
		if answers[0].status != http.StatusOK {
			t.Errorf("sign with oidc: %d %s", answers[0].status, answers[0].body)
		}
		for i, a := range answers[1:] {
			if msg := a.wantError(t, http.StatusForbidden, "denied"); !strings.Contains(msg, "uid 65534") {
				t.Errorf("%s: message %q does not name the uid", requests[i+1].Path, msg)
			}
		}
	})
	t.Run("a key without a grant and one that does not exist look alike", func(t *testing.T) {
		for _, path := range []string{"/v1/jwt/sign", "/v1/jws/sign", "/v1/digest/sign", "/v1/cek/unwrap", "/v1/jwe/decrypt", "/v1/jwe/encrypt"} {
			bodies := map[string]string{
				"/v1/jwt/sign": `{"key":"KEY","claims":{}}`, "/v1/jws/sign": `{"key":"KEY","payload":""}`,
				"/v1/digest/sign": `{"key":"KEY","alg":"","digest":""}`, "/v1/cek/unwrap": `{"key":"KEY","alg":"","encrypted_key":""}`,
				"/v1/jwe/decrypt": `{"key":"KEY","jwe":""}`, "/v1/jwe/encrypt": `{"key":"KEY","plaintext":""}`,
			}
			ask := func(key string) childRequest {
				return childRequest{Method: http.MethodPost, Path: path, Body: strings.Replace(bodies[path], "KEY", key, 1)}
			}
			there, absent := "rsa", "xyz"
			if strings.Contains(path, "cek") || strings.Contains(path, "jwe") {
				there, absent = "inbox", "zzzzz"
			}
			answers := p.asPeer(nobody, ask(there), ask(absent))
			a, b := answers[0], answers[1]
			if a.status != http.StatusForbidden || strings.Replace(a.withoutID(), there, absent, 1) != b.withoutID() || a.status != b.status {
				t.Errorf("%s: %d %s\nand %d %s", path, a.status, a.body, b.status, b.body)
			}
		}
	})
	t.Run("a kid of somebody else's key and an unknown kid look alike", func(t *testing.T) {
		kid := p.asPeer(&syscall.Credential{Uid: 4712, Gid: 4712}, childRequest{Method: http.MethodGet, Path: "/v1/keys/inbox"})
		key := decode[struct{ Versions []struct{ KID string } }](t, "keys", kid[0])
		ask := func(kid string) childRequest {
			return childRequest{Method: http.MethodPost, Path: "/v1/cek/unwrap", Body: fmt.Sprintf(`{"kid":%q,"alg":"RSA-OAEP","encrypted_key":"e30"}`, kid)}
		}
		answers := p.asPeer(nobody, ask(key.Versions[0].KID), ask("nobody-has-this-one"))
		answers[0].wantError(t, http.StatusForbidden, "denied")
		if answers[0].withoutID() != answers[1].withoutID() {
			t.Errorf("%s\nand %s", answers[0].body, answers[1].body)
		}
	})
	t.Run("a group counts when it is a supplementary one", func(t *testing.T) {
		answers := p.asPeer(&syscall.Credential{Uid: 4000, Gid: 4000, Groups: []uint32{4709, 4711}}, signRequest("rsa"), signRequest("oidc"))
		if answers[0].status != http.StatusOK {
			t.Errorf("%d %s", answers[0].status, answers[0].body)
		}
		answers[1].wantError(t, http.StatusForbidden, "denied")
	})
	t.Run("a group counts among more than a hundred", func(t *testing.T) {
		groups := []uint32{}
		for g := uint32(5000); g < 5300; g++ {
			groups = append(groups, g)
		}
		if a := p.asPeer(&syscall.Credential{Uid: 4000, Gid: 4000, Groups: append(groups, 4711)}, signRequest("rsa"))[0]; a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("a group counts when it is the primary one", func(t *testing.T) {
		if a := p.asPeer(&syscall.Credential{Uid: 4000, Gid: 4711}, signRequest("rsa"))[0]; a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("a peer without any grant sees nothing", func(t *testing.T) {
		cred := &syscall.Credential{Uid: 4001, Gid: 4001}
		answers := p.asPeer(cred, childRequest{Method: http.MethodGet, Path: "/v1/keys"}, childRequest{Method: http.MethodGet, Path: "/v1/jwks"}, signRequest("oidc"))
		for _, a := range answers {
			a.wantError(t, http.StatusForbidden, "denied")
		}
	})
	t.Run("root needs a grant like anybody else", func(t *testing.T) {
		for _, r := range []childRequest{
			signRequest("oidc"), signRequest("rsa"), {Method: http.MethodPost, Path: "/v1/admin/reload", Body: `{}`}, {Method: http.MethodGet, Path: "/v1/keys"},
		} {
			p.do(r.Method, r.Path, r.Body).wantError(t, http.StatusForbidden, "denied")
		}
	})
	t.Run("each refusal is in the audit log under its uid", func(t *testing.T) {
		denied := map[uint32]int{}
		for _, r := range s.records(t) {
			if r.Outcome == "denied" {
				denied[r.Peer.UID]++
			}
		}
		for uid, want := range map[uint32]int{65534: 11 + 12 + 2, 4000: 1, 4001: 3, 0: 4} {
			if denied[uid] != want {
				t.Errorf("%d denials of uid %d, want %d", denied[uid], uid, want)
			}
		}
	})
}
