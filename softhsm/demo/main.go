// Command demo lives the main job of signetd once, end to end: a SoftHSM2 token
// with three keys, the real daemon over it, an issuer that signs and a recipient
// that opens, each checked by an implementation that is not ours. It stops and
// removes all that it made, and exits with 1 if any step differs from what it
// should be. `make demo` runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"signetd/daemon/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, &story{out: os.Stdout, color: isTerminal(os.Stdout)})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s *story) (err error) {
	dir, err := os.MkdirTemp("", "signetd-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w := &world{story: s, dir: dir}
	if err := w.build(ctx); err != nil {
		return err
	}
	if err := w.provision(ctx); err != nil {
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
	s.end("Every step did what it should.")
	return nil
}
