package config

import (
	"cmp"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"time"

	"signetd/daemon"
	"signetd/daemon/audit"
	"signetd/daemon/server"
)

// Settings are what the process needs beside keys and grants, checked and with the
// defaults filled in. A change of them takes a restart.
type Settings struct {
	Socket  server.SocketConfig
	Limits  daemon.Limits
	Audit   Audit
	Metrics Metrics
	Log     *slog.Logger // to standard error
}

// Settings checks the sections socket, limits, audit, log and metrics.
func (f *File) Settings() (s Settings, err error) {
	if s.Limits, err = f.limits(); err != nil {
		return s, err
	}
	if s.Socket, err = f.socket(); err != nil {
		return s, err
	}

	s.Audit = Audit{f.Audit.Path, cmp.Or(f.Audit.Sync, audit.SyncAlways)}
	if !filepath.IsAbs(s.Audit.Path) {
		return s, f.Invalid("$.audit.path", "must be an absolute path: nothing is signed without a record")
	}
	if s.Audit.Sync != audit.SyncAlways && s.Audit.Sync != audit.SyncNever {
		return s, f.Invalid("$.audit.sync", "must be always or never")
	}

	if s.Metrics, err = f.metrics(); err != nil {
		return s, err
	}
	s.Log, err = f.logger()
	return s, err
}

func (f *File) limits() (daemon.Limits, error) {
	l := f.Limits
	for _, limit := range []struct {
		member string
		n      int64
	}{
		{"connections", int64(l.Connections)},
		{"in_flight", int64(l.InFlight)},
		{"per_peer", int64(l.PerPeer)},
		{"refusals", int64(l.Refusals)},
		{"batch", int64(l.Batch)},
		{"request_bytes", l.RequestBytes},
	} {
		if limit.n < 0 || limit.n > 1<<30 {
			return l, f.Invalid("$.limits."+limit.member, "must be a number from 1 to 2^30")
		}
	}

	if l.Timeout != 0 && (l.Timeout < 10*time.Millisecond || l.Timeout > 10*time.Minute) {
		return l, f.Invalid("$.limits.timeout", "must be a duration from 10ms to 10m")
	}
	return l.WithDefaults(), nil
}

func (f *File) socket() (server.SocketConfig, error) {
	c := server.SocketConfig{Path: f.Socket.Path, Mode: 0o600, GID: -1}
	if !filepath.IsAbs(c.Path) {
		return c, f.Invalid("$.socket.path", "must be an absolute path")
	}
	if len(c.Path) > server.MaxSocketPath {
		return c, f.Invalid("$.socket.path", "is longer than %d bytes: programs could not connect", server.MaxSocketPath)
	}

	if f.Socket.Mode != "" {
		mode, err := strconv.ParseUint(f.Socket.Mode, 8, 32)
		if err != nil || mode > 0o777 {
			return c, f.Invalid("$.socket.mode", "must be three octal digits in quotes, such as \"0660\"")
		}
		c.Mode = os.FileMode(mode)
	}

	if f.Socket.Group != "" {
		gid, err := resolve(f.Socket.Group, groupID)
		if err != nil {
			return c, f.Invalid("$.socket.group", "%w", err)
		}
		c.GID = int(*gid)
	}
	return c, nil
}

// metrics refuses addresses that other hosts can reach, because the metrics name keys.
func (f *File) metrics() (Metrics, error) {
	where := f.Metrics.Listen
	switch {
	case where == "":
		return f.Metrics, nil
	case filepath.IsAbs(where) && len(where) > server.MaxSocketPath:
		return f.Metrics, f.Invalid("$.metrics.listen", "is longer than %d bytes: programs could not connect", server.MaxSocketPath)
	case filepath.IsAbs(where):
		return f.Metrics, nil
	}

	host, _, err := net.SplitHostPort(where)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return f.Metrics, f.Invalid("$.metrics.listen", "must be an absolute path, or a loopback address and port such as 127.0.0.1:9464")
	}
	return f.Metrics, nil
}

func (f *File) logger() (*slog.Logger, error) {
	var level slog.Level
	if f.Log.Level != "" {
		if err := level.UnmarshalText([]byte(f.Log.Level)); err != nil {
			return nil, f.Invalid("$.log.level", "must be debug, info, warn or error")
		}
	}

	options := &slog.HandlerOptions{Level: level}
	switch f.Log.Format {
	case "", "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	default:
		return nil, f.Invalid("$.log.format", "must be text or json")
	}
}

// NeedsRestart returns an error if f differs from old in a section that a running daemon
// cannot take over.
func (f *File) NeedsRestart(old *File) error {
	for _, section := range []struct {
		name     string
		old, new any
	}{
		{"socket", old.Socket, f.Socket},
		{"limits", old.Limits, f.Limits},
		{"audit", old.Audit, f.Audit},
		{"log", old.Log, f.Log},
		{"metrics", old.Metrics, f.Metrics},
	} {
		if !reflect.DeepEqual(section.old, section.new) {
			return f.Invalid("$."+section.name, "a change here needs a restart")
		}
	}
	return nil
}
