package softhsm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"signetd/backends/pkcs11"
	"signetd/backends/pkcs11/provision"
)

// A request is for a second process: it makes a token or a key. The PINs travel in files.
type request struct {
	Init *provision.InitOptions
	Key  *provision.KeyOptions

	PINFile, SOPINFile string
}

// requestEnv holds the request of a process that [request.run] started.
const requestEnv = "SIGNETD_SOFTHSM_REQUEST"

// run starts this same program once more, and returns what its init function prints.
//
// A process initialises a PKCS#11 module once, and in the first process the module
// belongs to the backend under test. The program is there already and has package
// provision linked in, so that neither a build nor the go command is needed.
func (r request) run(conf string) (result string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return "", err
	}

	cmd := exec.Command(self) // #nosec G204 -- this program
	cmd.Env = append(os.Environ(), requestEnv+"="+string(text), "SOFTHSM2_CONF="+conf,
		"GORACE=atexit_sleep_ms=0") // the race detector would sleep for a second at the end
	var stderr bytes.Buffer
	cmd.Stderr = &stderr

	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("softhsm: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}

	// Packages whose init functions ran before may have printed lines of their own.
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return string(lines[len(lines)-1]), nil
}

func init() { //nolint:gochecknoinits // it must run before the main function of a program that is not ours
	text := os.Getenv(requestEnv)
	if text == "" {
		return
	}

	result, err := serve(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = fmt.Fprintf(os.Stdout, "\n%s\n", result)
	os.Exit(0)
}

// serve does what the request in text says. It returns the serial number of a new
// token, or the URI of a new key.
func serve(text string) (result string, err error) {
	var r request
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return "", err
	}
	pin, err := pkcs11.ReadPIN(r.PINFile)
	if err != nil {
		return "", err
	}

	if r.Key != nil {
		r.Key.PIN = pin
		key, err := provision.GenerateKey(*r.Key)
		return key.URI, err
	}

	r.Init.PIN = pin
	if r.Init.SOPIN, err = pkcs11.ReadPIN(r.SOPINFile); err != nil {
		return "", err
	}
	return provision.InitToken(*r.Init)
}
