//go:build cgo

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/provision"
	"signetd/daemon/api"
	"signetd/signer"
	"signetd/softhsm"
)

// pinFlags returns the PIN flags of a token, read by another process. low is
// CKF_USER_PIN_COUNT_LOW: at least one failed login since the last good one. more is
// CKF_USER_PIN_FINAL_TRY or CKF_USER_PIN_LOCKED.
func pinFlags(t *testing.T, token *softhsm.Token, label string) (low, more bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", token.Module(), label)
	cmd.Env = append(os.Environ(), childPart+"=flags", raceOptions, "SOFTHSM2_CONF="+token.Conf())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("flags: %v", err)
	}
	return strings.Contains(string(out), "count-low"), strings.Contains(string(out), "more")
}

func TestE2EWrongPIN(t *testing.T) {
	token := newToken(t, "wrong-pin")
	if _, err := token.GenerateKey("oidc", provision.ECP256, signer.UseSig); err != nil {
		t.Fatal(err)
	}
	if low, more := pinFlags(t, token, token.Label()); low || more {
		t.Fatal("the fresh token counts failed attempts already")
	}

	s := newSettings(t).oneKey()
	s.token = token
	const wrong = "wrong-pin-38c5"
	pinFile := s.path("pin")
	writeFile(t, pinFile, wrong+"\n")
	s.backends = strings.Replace(s.backends, "$pin", pinFile, 1)

	for _, command := range []string{"check", "serve"} {
		began := time.Now()
		text := refused(t, s, command)
		if time.Since(began) > 20*time.Second {
			t.Errorf("%s took %v to say so", command, time.Since(began))
		}
		if !strings.Contains(text, pinFile) || !strings.Contains(text, "one attempt") || strings.Contains(text, wrong) {
			t.Errorf("%s: the error does not name the file and the attempt alone: %s", command, text)
		}
		placeOf(t, s, text)
	}

	if low, more := pinFlags(t, token, token.Label()); !low || more {
		t.Errorf("flags: count low %v, final try or locked %v; want true and false", low, more)
	}
	if strings.Contains(textOf(t, s.dir), wrong) {
		t.Error("the PIN is in a file that the daemon made")
	}
}

// A reload with a wrong PIN in the PIN file is refused after at most one login attempt,
// and the daemon serves on with the old login.
func TestE2EReloadWrongPIN(t *testing.T) {
	s := newSettings(t).oneKey()
	s.token = newToken(t, "first")
	uri, err := s.token.GenerateKey("oidc", provision.ECP256, signer.UseSig)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.token.AddToken("second"); err != nil {
		t.Fatal(err)
	}
	s.keys = strings.Replace(s.keys, "$oidc", uri, 1)
	p := start(t, s)
	right := readFile(t, s.token.PINFile())
	const wrong = "0wrong-pin-0"

	t.Run("for the token that is in use", func(t *testing.T) {
		writeFile(t, s.token.PINFile(), wrong)
		if msg := p.reload().wantError(t, http.StatusServiceUnavailable, "unavailable"); strings.Contains(msg, wrong) || !strings.Contains(msg, s.token.PINFile()) {
			t.Errorf("message %q", msg)
		}
		p.sign("oidc", "")
		if low, _ := pinFlags(t, s.token, s.token.Label()); low {
			t.Error("the wrong PIN was shown to the token")
		}
		writeFile(t, s.token.PINFile(), right)
		decode[api.Reloaded](t, "reload", p.reload())
		p.sign("oidc", "")
	})
	t.Run("for another token", func(t *testing.T) {
		pinFile := filepath.Join(s.dir, "second-pin")
		writeFile(t, pinFile, wrong)
		s.backends += "\n  - {name: other, pkcs11: {module: \"$module\", token: second, pin_file: \"" + pinFile + "\"}}"
		s.write(t)
		if msg := p.reload().wantError(t, http.StatusServiceUnavailable, "unavailable"); !strings.Contains(msg, "one attempt") {
			t.Errorf("message %q", msg)
		}
		// A login by another program with the right PIN clears the token's flag of a
		// failed attempt. If the flag stays clear, the daemon has not tried again.
		softhsmUtil(t, s.token, "--import", ecKeyFile(t), "--token", "second", "--label", "x", "--id", "01", "--pin", s.token.PIN())
		for range 3 {
			if msg := p.reload().wantError(t, http.StatusServiceUnavailable, "unavailable"); !strings.Contains(msg, "not tried again") {
				t.Errorf("message %q", msg)
			}
		}
		if low, _ := pinFlags(t, s.token, "second"); low {
			t.Error("the wrong PIN was tried again")
		}
		p.sign("oidc", "")
		if err := os.WriteFile(pinFile, []byte(right), 0o600); err != nil {
			t.Fatal(err)
		}
		decode[api.Reloaded](t, "reload", p.reload())
	})
	if strings.Contains(p.stderr.String()+readFile(t, s.path("audit.jsonl")), wrong) {
		t.Error("a log holds the PIN")
	}
}

// playFlags prints those flags of a token that tell of failed logins. It runs in a process
// of its own because SoftHSM2 reads its environment once.
func playFlags(module, label string) int {
	ctx := pkcs11.New(module)
	if err := ctx.Initialize(); err != nil {
		return 1
	}
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return 1
	}
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		if err != nil || info.Label != label {
			continue
		}
		if info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0 {
			fmt.Println("count-low")
		}
		if info.Flags&(pkcs11.CKF_USER_PIN_FINAL_TRY|pkcs11.CKF_USER_PIN_LOCKED) != 0 {
			fmt.Println("more")
		}
		return 0
	}

	return 1
}
