package softhsm

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
)

func TestCreate(t *testing.T) {
	token := New(t)
	if got := os.Getenv("SOFTHSM2_CONF"); got != token.Conf() {
		t.Errorf("SOFTHSM2_CONF is %q, want %q", got, token.Conf())
	}
	info, err := os.Stat(token.PINFile())
	if err != nil {
		t.Fatal(err)
	}

	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("the PIN file has mode %#o, want 0600", mode)
	}
	uri := token.Generate(t, "k", provision.ECP256, signer.UseSig)
	if !strings.HasPrefix(uri, "pkcs11:token=signetd-test;object=k;id=%") {
		t.Errorf("URI = %s", uri)
	}

	_, err = token.GenerateKey("k", provision.ECP256, signer.UseSig)
	if err == nil || !strings.Contains(err.Error(), "label already") {
		t.Errorf("a second key with the label: %v", err)
	}
	if _, err := Create(t.TempDir(), strings.Repeat("x", 33)); err == nil {
		t.Error("a token with a label of 33 bytes was made")
	}
}

// An independent program sees the key where this one put it.
func TestSeenByOthers(t *testing.T) {
	tool, err := exec.LookPath("pkcs11-tool")
	if err != nil {
		t.Skip("pkcs11-tool (package opensc) is not installed")
	}
	token := New(t)
	token.Generate(t, "k", provision.RSA2048, signer.UseEnc)

	out, err := exec.Command(tool, "--module", token.Module(), "--token-label", token.Label(), "--login", "--pin", token.PIN(), "--list-objects", "--type", "privkey").CombinedOutput()
	if err != nil {
		t.Fatalf("pkcs11-tool: %v\n%s", err, out)
	}
	for _, want := range []string{"label:      k", "decrypt, unwrap", "sensitive, always sensitive, never extractable"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("pkcs11-tool does not say %q:\n%s", want, out)
		}
	}
}

func TestModule(t *testing.T) {
	t.Setenv("SOFTHSM2_MODULE", "/somewhere/libsofthsm2.so")
	if path, err := Module(); err != nil || path != "/somewhere/libsofthsm2.so" {
		t.Errorf("Module() = %q, %v", path, err)
	}
	t.Setenv("SOFTHSM2_MODULE", "")
	old := paths
	t.Cleanup(func() { paths = old })
	paths = []string{"/nowhere/libsofthsm2.so"}
	if _, err := Module(); !errors.Is(err, ErrMissing) {
		t.Errorf("Module() without SoftHSM2: %v, want ErrMissing", err)
	}
}
