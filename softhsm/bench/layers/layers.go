//go:build linux && cgo

// Package layers has workers that run parts of signetd in their own process. What one
// layer reaches less than the layer below it is what it costs.
package layers

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"signetd/backends/pkcs11"
	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
	"signetd/signer/p256"
	"signetd/softhsm/bench/load"
)

// Limits are those of the daemons that are measured.
var Limits = daemon.Limits{Connections: 4096, InFlight: 64, PerPeer: 64}

// The layers that a job names.
const (
	Backend = "backend" // the backend and [signer.Version] alone
	Service = "service" // all of the daemon but its socket, without fsync
)

type target struct {
	ctx     context.Context //nolint:containedctx // the life of the worker
	backend signer.Backend
	version *signer.Version
	service *daemon.Service // nil for the backend alone
	log     *audit.Log
	dir     string
	key     string
	alg     signer.Alg
}

// New returns the target of a job that names a layer.
func New(ctx context.Context, j load.Job) (load.Target, error) {
	t, err := openBackend(ctx, j)
	if err != nil {
		return nil, err
	}

	switch j.Layer {
	case Backend:
		return t, nil
	case Service:
		return t, t.openService(audit.SyncNever)
	default:
		return nil, fmt.Errorf("no layer %q", j.Layer)
	}
}

func openBackend(ctx context.Context, j load.Job) (*target, error) {
	t := &target{ctx: ctx, key: j.Key, alg: signer.Alg(j.Alg)}
	b, err := pkcs11.Open(ctx, pkcs11.Config{Module: j.Module, Token: j.Token, PINFile: j.PINFile})
	if err != nil {
		return nil, err
	}
	t.backend = b

	key, err := b.OpenKey(ctx, "pkcs11:object="+j.Key)
	if err != nil {
		return nil, err
	}
	t.version, err = signer.NewVersion(key, signer.VersionConfig{
		Algs: []signer.Alg{t.alg}, SkipVerify: j.Unverified, VerifyES256: p256.Verifier, Places: []signer.PlaceConfig{{Backend: "hsm"}},
	})
	return t, err
}

func (t *target) openService(sync audit.Sync) (err error) {
	if t.dir, err = os.MkdirTemp("", "signetd-bench-layer-"); err != nil {
		return err
	}
	if t.log, err = audit.Open(filepath.Join(t.dir, "audit.jsonl"), sync); err != nil {
		return err
	}
	ring, err := signer.NewRing([]signer.NamedKey{{Name: t.key, Versions: []*signer.Version{t.version}}})
	if err != nil {
		return err
	}

	uid := uint32(os.Getuid()) // #nosec G115 -- of this process
	rules := &policy.JWT{Issuer: "https://id.example.com", Audiences: []string{"api"}, MaxTTL: 15 * time.Minute, Typ: "JWT"}
	p, err := policy.New([]policy.Key{{Name: t.key, Use: signer.UseSig, JWT: rules}},
		[]policy.Grant{{Peer: policy.Match{UID: &uid}, Ops: []api.Op{api.OpSignJWT}, Keys: []string{t.key}}})
	if err != nil {
		return err
	}

	setup := daemon.Setup{Ring: ring, Policy: p, Backends: map[string]signer.Backend{"hsm": t.backend}}
	t.service = daemon.NewService(setup, daemon.Config{
		Limits: Limits, Version: "bench", Audit: t.log, Metrics: daemon.NewMetrics("bench"), Log: slog.New(slog.DiscardHandler),
	})
	return nil
}

// Weight implements [load.Target].
func (t *target) Weight() int { return 1 }

// Close implements [load.Target].
func (t *target) Close() error {
	if t.service == nil {
		return t.backend.Close()
	}
	return errors.Join(t.service.Close(t.ctx), t.log.Close(), os.RemoveAll(t.dir))
}

// Client implements [load.Target].
func (t *target) Client(i int) (func() error, error) {
	if t.service != nil {
		peer := policy.Peer{UID: uint32(os.Getuid())} // #nosec G115 -- of this process
		body, err := json.Marshal(&api.SignJWTRequest{Key: t.key, Claims: load.Claims})
		if err != nil {
			return nil, err
		}
		return func() error {
			q := t.service.Begin(peer)
			q.Method, q.Path, q.Body = api.SignJWT.Method, api.SignJWT.Path, body
			r := t.service.Answer(t.ctx, &q)
			if err := r.Commit(); err != nil || r.Status != http.StatusOK {
				return fmt.Errorf("status %d: %s: %w", r.Status, r.Body, err)
			}
			return nil
		}, nil
	}

	message := load.SigningInput(i)
	var n uint64
	return func() error {
		n++
		binary.BigEndian.PutUint64(message, n)
		_, err := t.version.SignMessage(t.ctx, t.alg, message)
		return err
	}, nil
}
