//go:build linux && cgo

package tokens

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"

	"signetd/backends/pkcs11/provision"
	"signetd/signer"
	"signetd/softhsm"
)

// keygen makes a key with "signetd hsm keygen".
func (t *Token) keygen(label string, typ provision.KeyType, use signer.Use) error {
	signetd, err := softhsm.Signetd()
	if err != nil {
		return err
	}
	return run("", signetd, "hsm", "keygen", "--module", t.module, "--token", t.label, "--pin-file", t.pinFile,
		"--label", label, "--type", string(typ), "--use", string(use))
}

// toolTypes are the names that pkcs11-tool has for the types of keys.
var toolTypes = map[provision.KeyType]string{
	provision.RSA2048: "RSA:2048",
	provision.RSA3072: "RSA:3072",
	provision.ECP256:  "EC:prime256v1",
	provision.ECP384:  "EC:secp384r1",
	provision.ECP521:  "EC:secp521r1",
}

// keygenByTool makes a key with pkcs11-tool of OpenSC.
func (t *Token) keygenByTool(label string, typ provision.KeyType, use signer.Use) error {
	usage := "--usage-sign"
	if use == signer.UseEnc {
		usage = "--usage-decrypt"
	}
	id := fmt.Sprintf("%x", label)
	return run("", "pkcs11-tool", "--module", t.module, "--token-label", t.label, "--login", "--pin", t.pin,
		"--keypairgen", "--key-type", toolTypes[typ], "--label", label, "--id", id, "--sensitive", usage)
}

// output runs a program and returns what it prints.
func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output() // #nosec G204 -- the caller's fixed words
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return string(out), err
}
