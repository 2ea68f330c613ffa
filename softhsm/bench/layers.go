//go:build linux && cgo

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"signetd/backends/pkcs11"
	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// A layerTarget uses the token through a part of signetd in the worker's own process:
// the backend and [signer.Version] alone, or all of the daemon but its socket. What
// one layer has less than the one below it is what it costs.
type layerTarget struct {
	ctx     context.Context //nolint:containedctx // the life of the worker
	backend signer.Backend
	version *signer.Version
	service *daemon.Service // nil for the backend alone
	log     *audit.Log
	dir     string
	key     string
	alg     signer.Alg
}

func newLayerTarget(ctx context.Context, module, token, pinFile, label, alg, layer string) (t *layerTarget, err error) {
	t = &layerTarget{ctx: ctx, key: label, alg: signer.Alg(alg)}
	b, err := pkcs11.Open(ctx, pkcs11.Config{Module: module, Token: token, PINFile: pinFile})
	if err != nil {
		return nil, err
	}
	t.backend = b
	key, err := b.OpenKey(ctx, "pkcs11:object="+label)
	if err != nil {
		return nil, err
	}
	verify := !strings.HasSuffix(label, "-unverified")
	if t.version, err = signer.NewVersion(key, signer.VersionConfig{Algs: []signer.Alg{t.alg}, SkipVerify: !verify, Backend: "hsm"}); err != nil {
		return nil, err
	}
	if layer == "backend" {
		return t, nil
	}
	return t, t.serve()
}

// serve makes the service.
func (t *layerTarget) serve() (err error) {
	if t.dir, err = os.MkdirTemp("", "signetd-bench-layer-"); err != nil {
		return err
	}
	if t.log, err = audit.Open(filepath.Join(t.dir, "audit.jsonl"), audit.SyncNever); err != nil {
		return err
	}
	ring, err := signer.NewRing([]signer.NamedKey{{Name: t.key, Versions: []*signer.Version{t.version}}})
	if err != nil {
		return err
	}
	uid := uint32(os.Getuid()) // #nosec G115 -- of this process
	rules := &policy.JWT{Issuer: "https://id.example.com", Audiences: []string{"api"}, MaxTTL: 15 * time.Minute, Typ: "JWT"}
	p, err := policy.New([]policy.Key{{Name: t.key, Use: signer.UseSig, JWT: rules}},
		[]policy.Grant{{Peer: policy.Match{UID: &uid}, Ops: []policy.Op{policy.OpSignJWT}, Keys: []string{t.key}}})
	if err != nil {
		return err
	}
	setup := daemon.Setup{Ring: ring, Policy: p, Backends: map[string]signer.Backend{"hsm": t.backend}}
	t.service = daemon.NewService(setup, daemon.Limits{InFlight: 64, PerPeer: 64}, t.log, daemon.NewMetrics("bench"), slog.New(slog.DiscardHandler))
	return nil
}

func (t *layerTarget) weight() int { return 1 }

// close undoes what was made.
func (t *layerTarget) close() error {
	if t.service == nil {
		return t.backend.Close()
	}
	return errors.Join(t.service.Close(t.ctx), t.log.Close(), os.RemoveAll(t.dir))
}

// client implements target.
func (t *layerTarget) client(i int) (func() error, error) {
	if t.service != nil {
		peer := policy.Peer{UID: uint32(os.Getuid())} // #nosec G115 -- of this process
		return func() error {
			_, err := t.service.SignJWT(t.ctx, daemon.NewRequest(peer), &api.SignJWTRequest{Key: t.key, Claims: claims})
			return err
		}, nil
	}
	message := signingInput(i)
	var n uint64
	return func() error {
		n++
		binary.BigEndian.PutUint64(message, n)
		_, err := t.version.SignMessage(t.ctx, t.alg, message)
		return err
	}, nil
}
