//go:build linux && cgo

package main

import "fmt"

// A benchCase is one way to have the work of an algorithm done.
type benchCase struct {
	alg     string // of JOSE
	name    string // who does it, and how
	clients []int
	key     string // label of the key
	// start starts the worker.
	start startFunc
	// daemon is the daemon that the worker calls, if it calls one.
	daemon daemonKind

	// against is what the case is measured beside: the token in process unless the
	// case says otherwise, with as many clients unless it gives their number.
	against          string
	reference        startFunc
	referenceClients int
}

// A startFunc starts a worker that uses a key.
type startFunc func(w *world, key, alg string) (*worker, error)

func (c benchCase) String() string { return c.alg + " " + c.name }

var (
	few  = []int{1, 8, 64}
	many = []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000}
)

// Names of cases that floors and lines speak of.
const (
	nameVerified   = "signetd jwt/sign"
	nameUnverified = "signetd jwt/sign, verify off"
	nameDecrypt    = "signetd jwe/decrypt"
	nameBackend    = "backend alone"
	nameP11Kit     = "p11-kit server"
	nameProcess    = "one process an operation (pkcs11-tool)"
	nameToProcess  = "signetd jwt/sign, verify off, beside one process after the other (pkcs11-tool)"
	nameToItself   = "signetd jwt/sign, verify off, beside itself with 64 clients"
	nameLarge      = "signetd jwt/sign, verify off, with 200 keys and 1,000 objects, beside 10 keys"
)

// cases are all that is measured, in the order of the report.
func cases() (all []benchCase) {
	for _, alg := range signAlgs {
		if alg != "EdDSA" { // which crypto11 and p11-kit's protocol do not know
			all = append(all, inProcess(alg, verified(alg))...)
		}
		all = append(all, benchCase{alg: alg, name: nameBackend + ", verify off", clients: few, key: unverified(alg), start: layer("backend")},
			benchCase{alg: alg, name: nameBackend, clients: few, key: verified(alg), start: layer("backend")},
			benchCase{alg: alg, name: "daemon without its socket, verify off, fsync off", clients: few, key: unverified(alg), start: layer("service")})
		all = append(all, signing(alg)...)
		all = append(all, processes(alg, verified(alg)))
	}
	all = append(all, inProcess(oaep, inbox)...)
	for _, size := range []int{1, 8, 64} {
		all = append(all, onSocket(oaep, nameDecrypt+batches(size), inbox, few, daemonSync, job{Op: "jwe", Batch: size}))
	}
	all = append(all, processes(oaep, inbox))
	return append(all, besideOthers()...)
}

// inProcess are the ways of others to the token that are no processes an operation.
func inProcess(alg, key string) []benchCase {
	return []benchCase{
		{alg: alg, name: "crypto11", clients: few, key: key, start: startCrypto11},
		{alg: alg, name: nameP11Kit, clients: few, key: key, start: startP11Kit},
	}
}

// signing are the cases in which signetd signs.
func signing(alg string) (all []benchCase) {
	counts := few
	if alg == "ES256" {
		counts = many
	}
	one := job{Op: "jwt", Batch: 1}
	for _, v := range []struct{ key, suffix string }{{unverified(alg), ", verify off"}, {verified(alg), ""}} {
		all = append(all, onSocket(alg, nameVerified+v.suffix, v.key, counts, daemonSync, one))
		if alg == "ES256" {
			own := job{Op: "jwt", Batch: 1, OwnConnections: true}
			all = append(all, onSocket(alg, nameVerified+v.suffix+", a connection each", v.key, []int{8, 64}, daemonSync, own))
		}
		all = append(all, onSocket(alg, nameVerified+v.suffix+", fsync off", v.key, few, daemonNoSync, one),
			onSocket(alg, "signetd digest/sign"+v.suffix, v.key, few, daemonSync, job{Op: "digest", Batch: 1}))
		for _, size := range []int{8, 64} {
			all = append(all, onSocket(alg, nameVerified+v.suffix+batches(size), v.key, few, daemonSync, job{Op: "jwt", Batch: size}))
		}
	}
	return all
}

func batches(size int) string {
	if size == 1 {
		return ""
	}
	return fmt.Sprintf(", batches of %d", size)
}

// besideOthers are the cases whose reference is not the token in process.
func besideOthers() []benchCase {
	one := job{Op: "jwt", Batch: 1}
	itself := onSocket("ES256", nameToItself, unverified("ES256"), many, daemonSync, one)
	itself.against, itself.reference, itself.referenceClients = "signetd with 64 clients", itself.start, 64
	large := onSocket("ES256", nameLarge, unverified("ES256"), []int{64}, daemonLarge, one)
	large.against, large.reference = "signetd with 10 keys", itself.start
	process := onSocket("ES256", nameToProcess, unverified("ES256"), []int{64}, daemonSync, one)
	process.against, process.reference, process.referenceClients = "one process after the other", startProcess, 1
	return []benchCase{itself, large, process}
}

// onSocket is a case in which a daemon does a job.
func onSocket(alg, name, key string, clients []int, kind daemonKind, j job) benchCase {
	start := func(w *world, key, alg string) (*worker, error) {
		d, err := w.daemon(kind)
		if err != nil {
			return nil, err
		}
		j := j
		j.Kind, j.Socket, j.Key, j.Alg = "signetd", d.socket, key, alg
		return startWorker(nil, j)
	}
	return benchCase{alg: alg, name: name, clients: clients, key: key, daemon: kind, start: start}
}

func processes(alg, key string) benchCase {
	return benchCase{alg: alg, name: nameProcess, clients: few, key: key, start: startProcess}
}

func startToken(w *world, key, alg string) (*worker, error) {
	return w.small.start(job{Kind: "token", Key: key, Alg: alg})
}

func startCrypto11(w *world, key, alg string) (*worker, error) {
	return w.small.start(job{Kind: "crypto11", Key: key, Alg: alg})
}

func startProcess(w *world, key, alg string) (*worker, error) {
	return w.small.start(job{Kind: "process", Key: key, Alg: alg})
}

func layer(name string) startFunc {
	return func(w *world, key, alg string) (*worker, error) {
		return w.small.start(job{Kind: "layer", Key: key, Alg: alg, Layer: name})
	}
}

func startP11Kit(w *world, key, alg string) (*worker, error) {
	client, err := p11kitClient()
	if err != nil {
		return nil, err
	}
	address, err := w.p11kit()
	if err != nil {
		return nil, err
	}
	j := job{Kind: "token", Module: client, Token: w.small.Label(), PIN: w.small.PIN(), Key: key, Alg: alg}
	return startWorker([]string{"P11_KIT_SERVER_ADDRESS=" + address}, j)
}
