package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"signetd/backends"
	"signetd/daemon"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// build opens the backends, opens and proves every key, and resolves the users
// of the grants. What it opened is closed again if anything is wrong.
func (d *document) build(ctx context.Context, metrics *daemon.Metrics) (setup daemon.Setup, err error) {
	setup.Backends = map[string]signer.Backend{}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeWithin(&setup, closeTimeout))
		}
	}()
	rules, err := d.keyRules()
	if err != nil {
		return setup, err
	}
	if rules, err = d.trust(&setup, rules); err != nil {
		return setup, err
	}
	if setup.Policy, err = d.policy(rules); err != nil {
		return setup, err
	}
	if err := d.openBackends(ctx, setup.Backends); err != nil {
		return setup, err
	}
	setup.Ring, err = d.ring(ctx, setup.Backends, metrics)
	return setup, err
}

// closeTimeout is how long a setup that came to nothing may take to close.
const closeTimeout = 5 * time.Second

// closeWithin closes the backends of s. One that does not answer is left open: it
// must hold up neither the error nor the reload after this one.
func closeWithin(s *daemon.Setup, wait time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- s.Close() }() // ends when the backends are closed
	select {
	case err := <-done:
		return err
	case <-time.After(wait):
		return errors.New("a backend does not answer and was left open")
	}
}

func (d *document) openBackends(ctx context.Context, open map[string]signer.Backend) error {
	for i, c := range d.Backends {
		at := fmt.Sprintf("$.backends[%d]", i)
		if _, ok := open[c.Name]; ok || c.Name == "" {
			return d.at(at+".name", fmt.Errorf("%w: %q is empty or there twice", signer.ErrInvalid, c.Name))
		}
		if c.Software != nil && !d.InsecureSoftwareKeys {
			return d.at(at+".software", fmt.Errorf("%w: software keys are not protected by hardware; if that is meant, say insecure_software_keys: true", signer.ErrInvalid))
		}
		b, err := backends.Open(ctx, c)
		if err != nil {
			return d.at(at, fmt.Errorf("backend %q: %w", c.Name, err))
		}
		open[c.Name] = b
	}
	return nil
}

var keyName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// keyRules checks what can be checked of the keys without opening them.
func (d *document) keyRules() ([]policy.Key, error) {
	var keys []policy.Key
	for i, c := range d.Keys {
		at := fmt.Sprintf("$.keys[%d]", i)
		if !keyName.MatchString(c.Name) {
			return nil, d.at(at+".name", fmt.Errorf("%w: a name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit", signer.ErrInvalid))
		}
		use := signer.Use(c.Use)
		if use != signer.UseSig && use != signer.UseEnc {
			return nil, d.at(at+".use", fmt.Errorf("%w: sig or enc", signer.ErrInvalid))
		}
		if len(c.Algs) == 0 {
			return nil, d.at(at+".algs", fmt.Errorf("%w: none", signer.ErrInvalid))
		}
		for j, alg := range c.Algs {
			if signer.Alg(alg).Use() != use || slices.Contains(c.Algs[:j], alg) {
				return nil, d.at(fmt.Sprintf("%s.algs[%d]", at, j), fmt.Errorf("%w: %.32q is no algorithm for use %s, or there twice", signer.ErrInvalid, alg, use))
			}
		}
		key := policy.Key{Name: c.Name, Use: use}
		if c.JWT != nil {
			if use != signer.UseSig {
				return nil, d.at(at+".jwt", fmt.Errorf("%w: a key of use enc signs no claims", signer.ErrInvalid))
			}
			var err error
			if key.JWT, err = d.keyClaimPolicy(at+".jwt", *c.JWT); err != nil {
				return nil, err
			}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (d *document) policy(keys []policy.Key) (*policy.Policy, error) {
	var grants []policy.Grant
	for i, c := range d.Grants {
		peer, err := d.match(fmt.Sprintf("$.grants[%d].peer", i), c.Peer)
		if err != nil {
			return nil, err
		}
		g := policy.Grant{Peer: peer, Keys: c.Keys, BypassClaimPolicy: c.BypassClaimPolicy}
		if c.JWT != nil {
			if g.JWT, err = d.claimPolicy(fmt.Sprintf("$.grants[%d].jwt", i), *c.JWT); err != nil {
				return nil, err
			}
		}
		for _, op := range c.Ops {
			g.Ops = append(g.Ops, policy.Op(op))
		}
		grants = append(grants, g)
	}
	p, err := policy.New(keys, grants)
	var bad *policy.Error
	if errors.As(err, &bad) {
		at := fmt.Sprintf("$.grants[%d]", bad.Grant)
		var rule *policy.RuleError
		if errors.As(bad.Err, &rule) {
			return nil, d.atRule(at+".jwt", rule)
		}
		return nil, d.at(at, bad.Err)
	}
	return p, err
}

func (d *document) match(at string, c PeerConfig) (m policy.Match, err error) {
	if (c.User == nil) == (c.Group == nil) {
		return m, d.at(at, fmt.Errorf("%w: exactly one of user and group", signer.ErrInvalid))
	}
	if c.User != nil {
		m.UID, err = principal(c.User, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
		if err != nil {
			return m, d.at(at+".user", err)
		}
		return m, nil
	}
	if m.GID, err = principal(c.Group, groupID); err != nil {
		return m, d.at(at+".group", err)
	}
	return m, nil
}

func groupID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}

// principal is the id of a user or group that is given by id, as a number or in
// digits, or by a name that this host knows.
func principal(v any, lookup func(string) (string, error)) (*uint32, error) {
	text := fmt.Sprint(v)
	if _, ok := v.(string); !ok {
		if _, err := strconv.ParseUint(text, 10, 32); err != nil {
			return nil, fmt.Errorf("%w: a name or an id", signer.ErrInvalid)
		}
	}
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		found, lerr := lookup(text)
		if lerr != nil {
			return nil, fmt.Errorf("%w: this host does not know %.64q", signer.ErrInvalid, text)
		}
		if id, err = strconv.ParseUint(found, 10, 32); err != nil {
			return nil, fmt.Errorf("%w: the id of %.64q is no number", signer.ErrInvalid, text)
		}
	}
	n := uint32(id)
	if n == math.MaxUint32 {
		return nil, fmt.Errorf("%w: %d is the id of nobody: it stands for -1", signer.ErrInvalid, n)
	}
	return &n, nil
}

func (d *document) ring(ctx context.Context, open map[string]signer.Backend, metrics *daemon.Metrics) (*signer.Ring, error) {
	var keys []signer.NamedKey
	for i, c := range d.Keys {
		named := signer.NamedKey{Name: c.Name}
		for j, vc := range c.Versions {
			at := fmt.Sprintf("$.keys[%d].versions[%d]", i, j)
			v, err := d.version(ctx, at, open, c, vc, metrics)
			if err != nil {
				return nil, err
			}
			named.Versions = append(named.Versions, v)
		}
		keys = append(keys, named)
	}
	ring, err := signer.NewRing(keys)
	if err != nil {
		return nil, d.at("$.keys", err)
	}
	return ring, nil
}

func (d *document) version(ctx context.Context, at string, open map[string]signer.Backend, c KeyConfig, vc VersionConfig, metrics *daemon.Metrics) (*signer.Version, error) {
	b, ok := open[vc.Backend]
	if !ok {
		return nil, d.at(at+".backend", fmt.Errorf("%w: no backend is named %.64q", signer.ErrInvalid, vc.Backend))
	}
	config := signer.VersionConfig{
		KID: vc.KID, Backend: vc.Backend, SkipVerify: c.Verify != nil && !*c.Verify, Observe: metrics.ObserveBackend(vc.Backend),
	}
	for _, alg := range c.Algs {
		config.Algs = append(config.Algs, signer.Alg(alg))
	}
	if vc.NotBefore != "" {
		var err error
		if config.NotBefore, err = time.Parse(time.RFC3339, vc.NotBefore); err != nil {
			return nil, d.at(at+".not_before", fmt.Errorf("%w: a time such as 2026-11-01T00:00:00Z", signer.ErrInvalid))
		}
	}
	key, err := b.OpenKey(ctx, vc.Ref)
	if err != nil {
		return nil, d.at(at+".ref", fmt.Errorf("key %q: %w", c.Name, err))
	}
	v, err := signer.NewVersion(key, config)
	if err != nil {
		return nil, d.at(at, fmt.Errorf("key %q: %w", c.Name, err))
	}
	if err := v.Prove(ctx); err != nil {
		return nil, d.at(at, fmt.Errorf("key %q: %w", c.Name, err))
	}
	return v, nil
}

// limits reads the limits. Zero means the default.
func (d *document) limits() (l daemon.Limits, err error) {
	c := d.Limits
	l = daemon.Limits{Connections: c.Connections, InFlight: c.InFlight, PerPeer: c.PerPeer, Refusals: c.Refusals, Batch: c.Batch, RequestBytes: c.RequestBytes}
	for name, n := range map[string]int64{"connections": int64(c.Connections), "in_flight": int64(c.InFlight), "per_peer": int64(c.PerPeer), "refusals": int64(c.Refusals), "batch": int64(c.Batch), "request_bytes": c.RequestBytes} {
		if n < 0 || n > 1<<30 {
			return l, d.at("$.limits."+name, fmt.Errorf("%w: a number from 1 to 2^30", signer.ErrInvalid))
		}
	}
	if c.Timeout != "" {
		if l.Timeout, err = time.ParseDuration(c.Timeout); err != nil || l.Timeout < 10*time.Millisecond || l.Timeout > 10*time.Minute {
			return l, d.at("$.limits.timeout", fmt.Errorf("%w: a duration from 10ms to 10m", signer.ErrInvalid))
		}
	}
	return l.WithDefaults(), nil
}

// socket reads where to listen.
func (d *document) socket() (c daemon.SocketConfig, err error) {
	c = daemon.SocketConfig{Path: d.Socket.Path, Mode: 0o600, GID: -1}
	if !filepath.IsAbs(c.Path) {
		return c, d.at("$.socket.path", fmt.Errorf("%w: an absolute path", signer.ErrInvalid))
	}
	if len(c.Path) > daemon.MaxSocketPath {
		return c, d.at("$.socket.path", fmt.Errorf("%w: longer than %d bytes, so that nobody could connect", signer.ErrInvalid, daemon.MaxSocketPath))
	}
	if d.Socket.Mode != "" {
		mode, err := strconv.ParseUint(d.Socket.Mode, 8, 32)
		if err != nil || mode > 0o777 {
			return c, d.at("$.socket.mode", fmt.Errorf("%w: three octal digits in quotes, such as \"0660\"", signer.ErrInvalid))
		}
		c.Mode = os.FileMode(mode)
	}
	if d.Socket.Group != "" {
		gid, err := principal(d.Socket.Group, groupID)
		if err != nil {
			return c, d.at("$.socket.group", err)
		}
		c.GID = int(*gid)
	}
	return c, nil
}

func (d *document) auditLog() (path string, sync audit.Sync, err error) {
	path, sync = d.Audit.Path, audit.Sync(d.Audit.Sync)
	if sync == "" {
		sync = audit.SyncAlways
	}
	if !filepath.IsAbs(path) {
		return "", "", d.at("$.audit.path", fmt.Errorf("%w: an absolute path: nothing is signed without a record", signer.ErrInvalid))
	}
	if sync != audit.SyncAlways && sync != audit.SyncNever {
		return "", "", d.at("$.audit.sync", fmt.Errorf("%w: always or never", signer.ErrInvalid))
	}
	return path, sync, nil
}

// logger returns the log on standard error.
func (d *document) logger() (*slog.Logger, error) {
	var level slog.Level
	if d.Log.Level != "" {
		if err := level.UnmarshalText([]byte(d.Log.Level)); err != nil {
			return nil, d.at("$.log.level", fmt.Errorf("%w: debug, info, warn or error", signer.ErrInvalid))
		}
	}
	options := &slog.HandlerOptions{Level: level}
	switch d.Log.Format {
	case "", "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	default:
		return nil, d.at("$.log.format", fmt.Errorf("%w: text or json", signer.ErrInvalid))
	}
}
