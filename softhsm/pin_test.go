//go:build cgo

package softhsm_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// tokenFlags are the flags of a token as another process sees them, by the words
// of PKCS#11 (CKF_USER_PIN_COUNT_LOW is one failed attempt at least, and
// CKF_USER_PIN_FINAL_TRY and CKF_USER_PIN_LOCKED are more).
func tokenFlags(t *testing.T, token *softhsm.Token) (countLow, more bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", token.Module(), token.Label())
	cmd.Env = append(os.Environ(), childPart+"=flags", "SOFTHSM2_CONF="+token.Conf())
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
	if low, more := tokenFlags(t, token); low || more {
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
	if low, more := tokenFlags(t, token); !low || more {
		t.Errorf("flags: count low %v, final try or locked %v; want true and false", low, more)
	}
	if strings.Contains(textOf(t, s.dir), wrong) {
		t.Error("the PIN is in a file that the daemon made")
	}
}

// playFlags prints which of its flags a token has that tell of failed logins. It
// is a process of its own because SoftHSM2 reads its environment only once.
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
