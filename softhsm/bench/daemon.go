//go:build linux && cgo

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"signetd/daemon/api"
	"signetd/daemon/client"
)

// A daemonTarget calls signetd over its socket, as an issuer does: each client with
// a connection of its own.
type daemonTarget struct {
	ctx     context.Context //nolint:containedctx // the life of the worker
	socket  string
	key     string
	alg     string
	what    string // jwt, digest, jwe, or batch-N
	batch   int
	jwe     string
	clients []*client.Client
}

var claims = json.RawMessage(`{"sub":"alice","aud":"api","scope":"read write","client_id":"s6BhdRkqt3"}`)

func newDaemonTarget(ctx context.Context, socket, key, alg, what string) (*daemonTarget, error) {
	t := &daemonTarget{ctx: ctx, socket: socket, key: key, alg: alg, what: what, batch: 1}
	if n, ok := strings.CutPrefix(what, "batch-"); ok {
		var err error
		if t.batch, err = strconv.Atoi(n); err != nil {
			return nil, err
		}
		t.what = "batch"
	}
	if what != "jwe" {
		return t, nil
	}
	c := client.New(client.Config{Socket: socket})
	sealed, err := c.EncryptJWE(ctx, api.EncryptJWERequest{Key: key, Plaintext: []byte(claims)})
	if err = errors.Join(err, c.Close()); err != nil {
		return nil, err
	}
	t.jwe = sealed.JWE
	return t, nil
}

func (t *daemonTarget) weight() int { return t.batch }

// close closes the connections.
func (t *daemonTarget) close() error {
	var errs []error
	for _, c := range t.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// client implements target.
func (t *daemonTarget) client(i int) (func() error, error) {
	c := client.New(client.Config{Socket: t.socket})
	t.clients = append(t.clients, c)
	switch t.what {
	case "jwt":
		return func() error {
			_, err := c.SignJWT(t.ctx, api.SignJWTRequest{Key: t.key, Claims: claims})
			return err
		}, nil
	case "batch":
		requests := make([]api.SignJWTRequest, t.batch)
		for i := range requests {
			requests[i] = api.SignJWTRequest{Key: t.key, Claims: claims}
		}
		return func() error {
			results, err := client.Batch(t.ctx, c, client.SignJWTs, requests)
			for _, r := range results {
				err = errors.Join(err, r.Err)
			}
			return err
		}, nil
	case "digest":
		digest := make([]byte, 32)
		binary.BigEndian.PutUint64(digest, uint64(i)) // #nosec G115 -- a small number
		return func() error {
			digest[31]++
			_, err := c.SignDigest(t.ctx, api.SignDigestRequest{Key: t.key, Alg: t.alg, Digest: digest})
			return err
		}, nil
	case "jwe":
		return func() error {
			_, err := c.DecryptJWE(t.ctx, api.DecryptJWERequest{JWE: t.jwe})
			return err
		}, nil
	default:
		return nil, fmt.Errorf("no request %q", t.what)
	}
}
