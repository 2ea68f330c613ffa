//go:build linux && cgo

package main

import (
	"fmt"
	"path/filepath"

	"signetd/softhsm/bench/layers"
	"signetd/softhsm/bench/load"
	"signetd/softhsm/bench/report"
)

// A benchCase is one way to have the work of an algorithm done.
type benchCase struct {
	alg     string // of JOSE
	name    string // who does it, and how
	clients []int
	key     string // label of the key
	start   startFunc
	daemon  daemonKind // the daemon that the worker calls, or daemonNone

	// against names the reference if it is not the token in process with as many clients.
	// It has referenceClients, or as many as the case if that is 0.
	against          string
	reference        startFunc
	referenceClients int
}

// A startFunc starts a worker that uses a key.
type startFunc func(w *world, key, alg string) (*load.Worker, error)

func (c benchCase) String() string { return c.alg + " " + c.name }

// cases are all that is measured, in the order of the report.
func cases() (all []benchCase) {
	for _, alg := range report.SignAlgs {
		all = append(all, ways(alg, verified(alg))...)
		all = append(all,
			benchCase{alg: alg, name: report.Backend + report.VerifyOff, clients: report.Few, key: unverified(alg), start: startLayer(layers.Backend)},
			benchCase{alg: alg, name: report.Backend, clients: report.Few, key: verified(alg), start: startLayer(layers.Backend)},
			benchCase{alg: alg, name: report.Service, clients: report.Few, key: unverified(alg), start: startLayer(layers.Service)})
		all = append(all, signing(alg)...)
	}

	all = append(all, ways(report.OAEP, inbox)...)
	for _, size := range []int{1, 8, 64} {
		all = append(all, onSocket(report.OAEP, report.Decrypt+report.Batches(size), inbox, report.Few, daemonSync, load.Job{Op: "jwe", Batch: size}))
	}
	return append(all, besideOthers()...)
}

// ways are the ways to the token that are not signetd's.
func ways(alg, key string) []benchCase {
	all := []benchCase{
		{alg: alg, name: report.Limit, clients: report.Few, key: key, start: startLimit},
		{alg: alg, name: report.Tool, clients: report.Few, key: key, start: startKind("tool")},
	}
	if alg != "EdDSA" { // which crypto11 and p11-kit's protocol do not know
		all = append(all, benchCase{alg: alg, name: report.Crypto11, clients: report.Few, key: key, start: startKind("crypto11")},
			benchCase{alg: alg, name: report.P11Kit, clients: report.Few, key: key, start: startP11Kit})
	}
	return all
}

// signing are the cases in which signetd signs.
func signing(alg string) (all []benchCase) {
	counts := report.Few
	if alg == "ES256" {
		counts = report.Many
	}
	one := load.Job{Op: "jwt", Batch: 1}

	for _, v := range []struct{ key, suffix string }{{unverified(alg), report.VerifyOff}, {verified(alg), ""}} {
		name := report.Verified + v.suffix
		all = append(all, onSocket(alg, name, v.key, counts, daemonSync, one))
		if alg == "ES256" {
			own := load.Job{Op: "jwt", Batch: 1, OwnConnections: true}
			all = append(all, onSocket(alg, name+", a connection each", v.key, []int{8, 64}, daemonSync, own))
		}
		all = append(all, onSocket(alg, name+report.NoSync, v.key, report.Few, daemonNoSync, one),
			onSocket(alg, "signetd digest/sign"+v.suffix, v.key, report.Few, daemonSync, load.Job{Op: "digest", Batch: 1}))
		for _, size := range []int{8, 64} {
			all = append(all, onSocket(alg, name+report.Batches(size), v.key, report.Few, daemonSync, load.Job{Op: "jwt", Batch: size}))
		}
	}
	return all
}

// besideOthers are the cases whose reference is not the token in process.
func besideOthers() []benchCase {
	one := load.Job{Op: "jwt", Batch: 1}
	itself := onSocket("ES256", report.ToItself, unverified("ES256"), report.Many, daemonSync, one)
	itself.against, itself.reference, itself.referenceClients = "signetd with 64 clients", itself.start, 64
	large := onSocket("ES256", report.Large, unverified("ES256"), []int{64}, daemonLarge, one)
	large.against, large.reference = "signetd with 10 keys", itself.start
	tool := onSocket("ES256", report.ToTool, unverified("ES256"), []int{64}, daemonSync, one)
	tool.against, tool.reference, tool.referenceClients = "one process after the other", startKind("tool"), 1
	return []benchCase{itself, large, tool}
}

// onSocket is a case in which a daemon does a job.
func onSocket(alg, name, key string, clients []int, kind daemonKind, j load.Job) benchCase {
	start := func(w *world, key, alg string) (*load.Worker, error) {
		d, err := w.daemon(kind)
		if err != nil {
			return nil, err
		}
		j := j
		j.Kind, j.Socket, j.Key, j.Alg = "signetd", d.socket, key, alg
		return load.Start(nil, j)
	}
	return benchCase{alg: alg, name: name, clients: clients, key: key, daemon: kind, start: start}
}

// startKind returns what starts a worker of a kind that uses the token itself.
func startKind(kind string) startFunc {
	return func(w *world, key, alg string) (*load.Worker, error) {
		return w.small.start(load.Job{Kind: kind, Key: key, Alg: alg})
	}
}

func startLayer(name string) startFunc {
	return func(w *world, key, alg string) (*load.Worker, error) {
		return w.small.start(load.Job{Kind: "layer", Key: key, Alg: alg, Layer: name, Unverified: key == unverified(alg)})
	}
}

func startP11Kit(w *world, key, alg string) (*load.Worker, error) {
	client, err := p11kitClient()
	if err != nil {
		return nil, err
	}
	address, err := w.p11kit()
	if err != nil {
		return nil, err
	}
	j := load.Job{Kind: "token", Module: client, Token: w.small.Label(), PIN: w.small.PIN(), Key: key, Alg: alg}
	return load.Start([]string{"P11_KIT_SERVER_ADDRESS=" + address}, j)
}

func startLimit(w *world, key, alg string) (*load.Worker, error) {
	if w.limit == "" {
		program, err := load.BuildLimit(w.dir)
		if err != nil {
			return nil, err
		}
		w.limit = program
	}
	w.limits++
	j := w.small.job(load.Job{Key: key, Alg: alg, Socket: filepath.Join(w.dir, fmt.Sprint("limit", w.limits))})
	return load.StartLimit(w.ctx, w.limit, w.small.env(), j)
}
