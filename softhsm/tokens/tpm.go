//go:build linux && cgo

package tokens

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// NewTPM starts a TPM 2.0 in software (swtpm), a resource manager for it (tpm2-abrmd on a
// bus of its own), and a token of tpm2-pkcs11 in a store of its own. Calls run one at a
// time, with about 120 RSA signatures a second. After 1024 sessions it answers
// CKR_SESSION_COUNT; three wrong PINs lock it. RSA-PSS over a digest fails if C_Sign is
// asked for the length of the signature first, which package cryptoki does not do. It has
// no C_UnwrapKey, no derivation, no P-521.
func NewTPM(tb testing.TB) *Token {
	tb.Helper()
	paths := need(tb, "tpm", library("pkcs11/libtpm2_pkcs11.so*"), []string{"swtpm"}, program("tpm2-abrmd"), []string{"dbus-daemon"},
		[]string{"dbus-send"}, []string{"pkcs11-tool"}, library("libtss2-tcti-swtpm.so.0"), library("libtss2-tcti-tabrmd.so.0"))
	t := newToken(tb, paths[0], "signetd-test")

	dir := socketDir(tb)
	state, store, socket, bus := filepath.Join(dir, "state"), filepath.Join(dir, "store"), filepath.Join(dir, "tpm"), filepath.Join(dir, "bus")
	for _, d := range []string{state, store} {
		if err := os.Mkdir(d, 0o700); err != nil {
			tb.Fatal(err)
		}
	}

	start(tb, paths[1], "socket", "--tpm2", "--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+socket+".ctrl",
		"--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	wait(tb, "swtpm", exists(socket))
	start(tb, paths[3], "--session", "--nofork", "--nopidfile", "--address=unix:path="+bus)
	wait(tb, "dbus-daemon", exists(bus))

	for name, value := range map[string]string{
		"DBUS_SESSION_BUS_ADDRESS": "unix:path=" + bus,
		"TPM2_PKCS11_TCTI":         "tabrmd:bus_type=session",
		"TPM2_PKCS11_STORE":        store,
		"TPM2_PKCS11_BACKEND":      "esysdb",
		"TSS2_LOG":                 "all+NONE",
	} {
		tb.Setenv(name, value)
	}
	start(tb, paths[2], "--allow-root", "--session", "--tcti", "swtpm:path="+socket)
	wait(tb, "tpm2-abrmd", func() error { return owned(paths[4], "com.intel.tss2.Tabrmd") })

	so := randomPIN()
	tool := func(args ...string) error {
		return run("", paths[5], append([]string{"--module", t.module}, args...)...)
	}
	err := tool("--slot-index", "0", "--init-token", "--label", t.label, "--so-pin", so)
	if err == nil {
		err = tool("--token-label", t.label, "--login", "--login-type", "so", "--so-pin", so, "--init-pin", "--new-pin", t.pin)
	}
	if err != nil {
		tb.Fatal(err)
	}
	t.generate = t.keygenByTool
	return t
}

// owned returns an error if no program on the bus has taken a name.
func owned(dbusSend, name string) error {
	out, err := output(dbusSend, "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner", "string:"+name)
	if err != nil {
		return fmt.Errorf("dbus-send: %w", err)
	}
	if !strings.Contains(out, "boolean true") {
		return fmt.Errorf("no program on the bus has the name %s", name)
	}
	return nil
}
