//go:build linux && cgo

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// A job says what a worker is to do. It goes to the worker as JSON in its one
// argument: the token and its PIN last as long as the program.
type job struct {
	Kind    string `json:"kind"` // token, crypto11, process, layer, server, signetd or fill
	Module  string `json:"module,omitempty"`
	Token   string `json:"token,omitempty"`
	PIN     string `json:"pin,omitempty"`
	PINFile string `json:"pin_file,omitempty"`
	Key     string `json:"key,omitempty"` // label of the key, which is its name, too
	ID      string `json:"id,omitempty"`  // CKA_ID of the key in hexadecimal digits
	Alg     string `json:"alg,omitempty"` // of JOSE
	// For layer: backend or service.
	Layer string `json:"layer,omitempty"`
	// For signetd and server: the daemon's socket.
	Socket string `json:"socket,omitempty"`
	// For signetd: jwt, digest or jwe, and how many in a request.
	Op    string `json:"op,omitempty"`
	Batch int    `json:"batch,omitempty"`
	// OwnConnections has each client keep a connection of its own, instead of sharing
	// one client.Client.
	OwnConnections bool `json:"own_connections,omitempty"`
	// For server: the folder for the profiles.
	Dir string `json:"dir,omitempty"`
	// For fill: the labels of the keys to make.
	Labels []string `json:"labels,omitempty"`
}

// runWorker is the main of the processes that the cases are.
func runWorker(ctx context.Context, text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	switch j.Kind {
	case "server":
		return runServer(ctx, j, os.Stdin, os.Stdout)
	case "fill":
		return greet(os.Stdout, fill(j))
	}
	t, err := newTarget(ctx, j)
	if err := greet(os.Stdout, err); err != nil {
		return err
	}
	return work(t, os.Stdin, os.Stdout)
}

func newTarget(ctx context.Context, j job) (target, error) {
	switch j.Kind {
	case "token":
		return newTokenTarget(j)
	case "crypto11":
		return newCrypto11Target(j)
	case "process":
		return newProcessTarget(ctx, j)
	case "layer":
		return newLayerTarget(ctx, j)
	case "signetd":
		return newDaemonTarget(ctx, j)
	default:
		return nil, fmt.Errorf("no worker %q", j.Kind)
	}
}

// A greeting is the first that a worker writes: that it is ready, or why not.
type greeting struct {
	Error string `json:"error,omitempty"`
}

// greet writes the greeting of a worker whose target was made, or failed with err,
// which it returns.
func greet(out *os.File, err error) error {
	var g greeting
	if err != nil {
		g.Error = err.Error()
	}
	return errors.Join(err, json.NewEncoder(out).Encode(g))
}
