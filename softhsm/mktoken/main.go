// Command mktoken makes the tokens and keys of package softhsm, in a process of
// its own. It prints the serial number of the token, or the URI of the key.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
	"signetd/signer"
)

func main() {
	out, err := run(os.Args[1:])
	if err == nil {
		_, err = fmt.Fprintln(os.Stdout, out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mktoken:", err)
		os.Exit(1)
	}
}

func run(args []string) (string, error) {
	if len(args) == 0 {
		return "", errors.New("usage: mktoken init | keygen [flags]")
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	module := fs.String("module", "", "`path` of the PKCS#11 library")
	token := fs.String("token", "", "`label` of the token")
	pinFile := fs.String("pin-file", "", "`path` of the user PIN")
	soPINFile := fs.String("so-pin-file", "", "`path` of the security officer's PIN (init)")
	label := fs.String("label", "", "`label` of the key (keygen)")
	typ := fs.String("type", "", "`type` of the key (keygen)")
	use := fs.String("use", "", "sig or enc (keygen)")
	if err := fs.Parse(args[1:]); err != nil {
		return "", err
	}
	pin, err := pkcs11.ReadPIN(*pinFile)
	if err != nil {
		return "", err
	}
	switch args[0] {
	case "init":
		soPIN, err := pkcs11.ReadPIN(*soPINFile)
		if err != nil {
			return "", err
		}
		return provision.InitToken(provision.InitOptions{Module: *module, Label: *token, SOPIN: soPIN, PIN: pin})
	case "keygen":
		key, err := provision.GenerateKey(provision.KeyOptions{
			Module: *module, Token: *token, PIN: pin,
			Label: *label, Type: provision.KeyType(*typ), Use: signer.Use(*use),
		})
		return key.URI, err
	default:
		return "", fmt.Errorf("unknown command %q", args[0])
	}
}
