//go:build linux && cgo

package main

import "fmt"

// A benchCase is one way to have the work of an algorithm done.
type benchCase struct {
	alg     string // of JOSE
	name    string // who does it, and how
	clients []int
	// start starts the worker. key is the key's label, which with signetd is its
	// name, too.
	start func(w *world, key, alg string) (*worker, error)
	// key is the label of the key.
	key string
	// daemon is the daemon that the worker calls, if it calls one.
	daemon *int
}

func (c benchCase) String() string { return c.alg + " " + c.name }

// The daemons of a world: with each record on the disk before its answer, as by
// default, and without.
const (
	daemonSync = iota
	daemonNoSync
	daemons
)

var (
	few  = []int{1, 8, 64}
	many = []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000}
)

// keysOf are the labels of the keys of each algorithm: one whose signatures are
// verified before they leave, and one whose are not.
var keysOf = map[string][2]string{
	"ES256": {"es256", "es256-unverified"}, "RS256": {"rs256", "rs256-unverified"},
	"PS256": {"ps256", "ps256-unverified"}, "EdDSA": {"eddsa", "eddsa-unverified"},
	"RSA-OAEP-256": {"inbox", ""},
}

// cases are all that is measured, in the order of the report.
func cases() (all []benchCase) {
	for _, alg := range []string{"ES256", "RS256", "PS256", "EdDSA"} {
		verified, unverified := keysOf[alg][0], keysOf[alg][1]
		if alg != "EdDSA" { // which crypto11 and p11-kit's protocol do not know
			all = append(all, benchCase{alg: alg, name: "crypto11", clients: few, key: verified, start: startCrypto11},
				benchCase{alg: alg, name: "p11-kit server", clients: few, key: verified, start: startP11Kit})
		}
		all = append(all, benchCase{alg: alg, name: "backend alone, verify off", clients: few, key: unverified, start: startLayer("backend")},
			benchCase{alg: alg, name: "daemon without its socket, verify off, fsync off", clients: few, key: unverified, start: startLayer("service")})
		counts := few
		if alg == "ES256" {
			counts = many
		}
		all = append(all, onSocket(alg, "signetd jwt/sign, verify off", unverified, "jwt", counts, daemonSync),
			onSocket(alg, "signetd jwt/sign", verified, "jwt", counts, daemonSync),
			onSocket(alg, "signetd jwt/sign, verify off, fsync off", unverified, "jwt", few, daemonNoSync),
			onSocket(alg, "signetd digest/sign, verify off", unverified, "digest", few, daemonSync))
		for _, size := range []int{8, 64} {
			all = append(all, onSocket(alg, fmt.Sprintf("signetd jwt/sign, verify off, batches of %d", size), unverified, fmt.Sprintf("batch-%d", size), few, daemonSync),
				onSocket(alg, fmt.Sprintf("signetd jwt/sign, batches of %d", size), verified, fmt.Sprintf("batch-%d", size), few, daemonSync))
		}
	}
	all = append(all, onSocket("RSA-OAEP-256", "signetd jwe/decrypt", "inbox", "jwe", few, daemonSync),
		benchCase{alg: "ES256", name: "one process a signature (pkcs11-tool)", clients: []int{1, 4}, key: "es256", start: startProcess})
	return all
}

func onSocket(alg, name, key, what string, clients []int, daemon int) benchCase {
	return benchCase{alg: alg, name: name, clients: clients, key: key, daemon: &daemon, start: func(w *world, key, alg string) (*worker, error) {
		return startWorker(nil, "signetd", w.daemons[daemon].socket, key, alg, what)
	}}
}

func startToken(w *world, key, alg string) (*worker, error) {
	return startWorker(w.env(), "token", w.token.Module(), w.token.Label(), w.token.PIN(), key, alg)
}

func startCrypto11(w *world, key, alg string) (*worker, error) {
	return startWorker(w.env(), "crypto11", w.token.Module(), w.token.Label(), w.token.PIN(), key, alg)
}

func startLayer(layer string) func(w *world, key, alg string) (*worker, error) {
	return func(w *world, key, alg string) (*worker, error) {
		return startWorker(w.env(), "layer", w.token.Module(), w.token.Label(), w.token.PINFile(), key, alg, layer)
	}
}

func startP11Kit(w *world, key, alg string) (*worker, error) {
	address, err := w.p11kit()
	if err != nil {
		return nil, err
	}
	return startWorker([]string{"P11_KIT_SERVER_ADDRESS=" + address}, "token", p11kitClient, w.token.Label(), w.token.PIN(), key, alg)
}

func startProcess(w *world, key, alg string) (*worker, error) {
	return startWorker(w.env(), "process", w.token.Module(), w.token.Label(), w.token.PIN(), w.ids[key], alg)
}
