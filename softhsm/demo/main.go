// Command demo shows the main job of signetd, end to end: a SoftHSM2 token with three
// keys, the real daemon over it, an issuer that signs and a recipient that opens. openssl
// and go-jose check each result. The demo removes all that it made, and exits with 1 if a
// step has a wrong result. `make demo` runs it.
//
// With -kms each key has three versions, in the token, in a fake AWS KMS and in a fake
// Google Cloud KMS, and moves from one to the next while clients sign. `make demo-kms`
// runs that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"signetd/daemon/client"
)

func main() {
	kms := flag.Bool("kms", false, "keep the keys in a token and in two cloud KMS, and move from one to the next")
	flag.Parse()
	act := run
	if *kms {
		act = runKMS
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := act(ctx, &story{out: os.Stdout, color: isTerminal(os.Stdout)})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// newWorld returns a world in a new directory, and a function that removes it.
func newWorld(s *story, template string) (w *world, remove func() error, err error) {
	dir, err := os.MkdirTemp("", "signetd-demo-")
	if err != nil {
		return nil, nil, err
	}
	w = &world{story: s, dir: dir, template: template}
	w.values = w.tokenValues
	return w, func() error { return os.RemoveAll(dir) }, nil
}

func run(ctx context.Context, s *story) (err error) {
	w, remove, err := newWorld(s, configTemplate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := w.build(ctx); err != nil {
		return err
	}
	err = w.provision(ctx, keygen{"oidc", "ec-p256", "sig"}, keygen{"oidc-rsa", "rsa-2048", "sig"}, keygen{"inbox", "rsa-3072", "enc"})
	if err != nil {
		return err
	}
	if err := w.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()

	w.client = client.New(client.Config{Socket: w.socket()})
	for _, act := range []func(context.Context) error{w.sign, w.open, w.nest, w.refuse, w.audit} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	s.end("Every step had the right result.")
	return nil
}
