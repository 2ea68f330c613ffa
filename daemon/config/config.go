// Package config reads the config file of the daemon: strictly, and with errors that
// name the file, the line, the column and the member that is wrong.
//
// [Read] reads the file and opens nothing. [File.Settings] and [File.Setup] check what
// it says: the first for the process (socket, limits, audit log, logging), the second
// for the keys and who may use them. Neither opens a key. The package knows no backend:
// the caller of Read hands in the type of a backend's config.
package config

import (
	"signetd/daemon"
	"signetd/daemon/audit"
	"signetd/daemon/policy"
	"signetd/signer"
)

// A Config is the whole file but for its backends.
type Config struct {
	Socket               Socket        `yaml:"socket"`
	Limits               daemon.Limits `yaml:"limits"`
	Audit                Audit         `yaml:"audit"`
	Log                  Log           `yaml:"log"`
	Metrics              Metrics       `yaml:"metrics"`
	InsecureSoftwareKeys bool          `yaml:"insecure_software_keys"`
	Keys                 []Key         `yaml:"keys"`
	Issuers              []Issuer      `yaml:"issuers"`
	Recipients           []Recipient   `yaml:"recipients"`
	Grants               []Grant       `yaml:"grants"`
}

// A Socket says where to listen, unless systemd hands over a socket.
type Socket struct {
	Path  string `yaml:"path"`
	Mode  string `yaml:"mode"`  // octal, such as "0660"; "0600" if absent
	Group string `yaml:"group"` // name or id
}

// An Audit says where the audit log is and when its records are durable.
type Audit struct {
	Path string     `yaml:"path"`
	Sync audit.Sync `yaml:"sync"` // always (default) or never
}

// A Log says how the daemon logs to standard error.
type Log struct {
	Format string `yaml:"format"` // text (default) or json
	Level  string `yaml:"level"`  // debug, info (default), warn or error
}

// Metrics says where Prometheus finds the metrics. They are off if Listen is empty.
type Metrics struct {
	Listen string `yaml:"listen"` // an absolute path, or a loopback address and port
}

// A Key is one key with its versions.
type Key struct {
	Name     string       `yaml:"name"`
	Use      signer.Use   `yaml:"use"`
	Algs     []signer.Alg `yaml:"algs"`
	Verify   *bool        `yaml:"verify"` // verify each signature before it leaves; true if absent
	JWT      *policy.JWT  `yaml:"jwt"`
	Versions []Version    `yaml:"versions"`
}

// A Version is one key pair or secret key in one place, which Backend and Ref name, or
// in several, which Refs lists instead.
type Version struct {
	Backend   string  `yaml:"backend"`
	Ref       string  `yaml:"ref"`
	Refs      []Place `yaml:"refs"`
	KID       string  `yaml:"kid"`
	NotBefore Time    `yaml:"not_before"` // RFC 3339; zero if absent
}

// A Place is where a key version is: a backend by its name, and what the backend calls
// the key.
type Place struct {
	Backend string `yaml:"backend"`
	Ref     string `yaml:"ref"`
}

// Places returns where the version is: at least one place.
func (v Version) Places() []Place {
	if len(v.Refs) > 0 {
		return v.Refs
	}
	return []Place{{v.Backend, v.Ref}}
}

// A Grant allows peers operations on keys.
type Grant struct {
	Peer         Peer `yaml:"peer"`
	policy.Grant `yaml:",inline"`
}

// A Peer names a user or a group, each by name or id.
type Peer struct {
	User  any `yaml:"user"`
	Group any `yaml:"group"`
}

// An Issuer is a trusted issuer of tokens. Its public keys are in a file, or its key is
// one of the daemon's own.
type Issuer struct {
	Name          string `yaml:"name"`
	Issuer        string `yaml:"issuer"` // the "iss" of its tokens
	JWKSFile      string `yaml:"jwks_file"`
	Key           string `yaml:"key"`
	policy.Accept `yaml:",inline"`
}

// A Recipient is a public key to encrypt to.
type Recipient struct {
	Name     string         `yaml:"name"`
	JWK      map[string]any `yaml:"jwk"`       // or JWKSFile
	JWKSFile string         `yaml:"jwks_file"` // with KID, unless only one key in it fits
	KID      string         `yaml:"kid"`
	Alg      signer.Alg     `yaml:"alg"` // the JWK's "alg" if absent
	Enc      string         `yaml:"enc"` // if absent, the peer's choice, or A256GCM
}
