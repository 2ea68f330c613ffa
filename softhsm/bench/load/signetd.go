//go:build linux && cgo

package load

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"signetd/daemon/api"
	"signetd/daemon/client"
)

// A signetd is the daemon behind its socket, as an issuer calls it. All clients of the
// worker share one [client.Client], as its documentation says, unless the job gives each
// its own.
type signetd struct {
	ctx     context.Context //nolint:containedctx // the life of the worker
	job     Job
	jwe     string
	clients []*client.Client // one, unless each client of the worker has its own
}

// Claims are those of the JWTs that are signed.
var Claims = json.RawMessage(`{"sub":"alice","aud":"api","scope":"read write","client_id":"s6BhdRkqt3"}`)

func newSignetd(ctx context.Context, j Job) (*signetd, error) {
	t := &signetd{ctx: ctx, job: j}
	c := t.connect()
	if j.Op != "jwe" {
		return t, nil
	}

	sealed, err := c.EncryptJWE(ctx, api.EncryptJWERequest{Key: j.Key, Plaintext: []byte(Claims)})
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.jwe = sealed.JWE
	return t, nil
}

func (t *signetd) Weight() int { return t.job.Batch }

func (t *signetd) connect() *client.Client {
	c := client.New(client.Config{Socket: t.job.Socket})
	t.clients = append(t.clients, c)
	return c
}

// Close closes the connections.
func (t *signetd) Close() error {
	var errs []error
	for _, c := range t.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Client implements [Target].
func (t *signetd) Client(i int) (func() error, error) {
	c := t.clients[0]
	if t.job.OwnConnections {
		c = t.connect()
	}

	switch t.job.Op {
	case "jwt":
		req := api.SignJWTRequest{Key: t.job.Key, Claims: Claims}
		return calls(t, c, c.SignJWT, api.SignJWT, func() api.SignJWTRequest { return req }), nil

	case "digest":
		digest := make([]byte, 32)
		binary.BigEndian.PutUint64(digest, uint64(i)) // #nosec G115 -- a small number
		return calls(t, c, c.SignDigest, api.SignDigest, func() api.SignDigestRequest {
			digest[31]++
			return api.SignDigestRequest{Key: t.job.Key, Alg: t.job.Alg, Digest: digest}
		}), nil

	case "jwe":
		req := api.DecryptJWERequest{JWE: t.jwe}
		return calls(t, c, c.DecryptJWE, api.DecryptJWE, func() api.DecryptJWERequest { return req }), nil

	default:
		return nil, fmt.Errorf("no request %q", t.job.Op)
	}
}

// calls returns a function that sends one request, or a batch of them if the job has
// batches.
func calls[Request, Answer any](t *signetd, c *client.Client, one func(context.Context, Request) (*Answer, error),
	kind api.Endpoint[Request, Answer], next func() Request,
) func() error {
	if t.job.Batch == 1 {
		return func() error {
			_, err := one(t.ctx, next())
			return err
		}
	}

	requests := make([]Request, t.job.Batch)
	return func() error {
		for i := range requests {
			requests[i] = next()
		}
		results, err := client.Batch(t.ctx, c, kind, requests)
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		return err
	}
}
