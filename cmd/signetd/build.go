package main

import (
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

	"signetd/daemon"
	"signetd/daemon/api"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/daemon/server"
	"signetd/signer"
)

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
			g.Ops = append(g.Ops, api.Op(op))
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
func (d *document) socket() (c server.SocketConfig, err error) {
	c = server.SocketConfig{Path: d.Socket.Path, Mode: 0o600, GID: -1}
	if !filepath.IsAbs(c.Path) {
		return c, d.at("$.socket.path", fmt.Errorf("%w: an absolute path", signer.ErrInvalid))
	}
	if len(c.Path) > server.MaxSocketPath {
		return c, d.at("$.socket.path", fmt.Errorf("%w: longer than %d bytes, so that nobody could connect", signer.ErrInvalid, server.MaxSocketPath))
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
