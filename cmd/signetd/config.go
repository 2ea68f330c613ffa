package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"signetd/backends"
)

// A Config is the config file. Strings that stand for something else are read in
// build.go, where a mistake can be shown with its place.
type Config struct {
	Socket               SocketConfig      `yaml:"socket"`
	Limits               LimitsConfig      `yaml:"limits"`
	Audit                AuditConfig       `yaml:"audit"`
	Log                  LogConfig         `yaml:"log"`
	Metrics              MetricsConfig     `yaml:"metrics"`
	InsecureSoftwareKeys bool              `yaml:"insecure_software_keys"`
	Backends             []backends.Config `yaml:"backends"`
	Keys                 []KeyConfig       `yaml:"keys"`
	Issuers              []IssuerConfig    `yaml:"issuers"`
	Recipients           []RecipientConfig `yaml:"recipients"`
	Grants               []GrantConfig     `yaml:"grants"`
}

// A SocketConfig says where to listen unless systemd hands a socket over.
type SocketConfig struct {
	Path  string `yaml:"path"`
	Mode  string `yaml:"mode"`  // octal, such as "0660"
	Group string `yaml:"group"` // name or id
}

// A LimitsConfig bounds what the daemon takes on; see daemon.Limits.
type LimitsConfig struct {
	Connections  int    `yaml:"connections"`
	InFlight     int    `yaml:"in_flight"`
	PerPeer      int    `yaml:"per_peer"`
	Refusals     int    `yaml:"refusals"`
	Batch        int    `yaml:"batch"`
	RequestBytes int64  `yaml:"request_bytes"`
	Timeout      string `yaml:"timeout"`
}

// An AuditConfig says where the audit log is and when it is on the disk.
type AuditConfig struct {
	Path string `yaml:"path"`
	Sync string `yaml:"sync"` // always (default) or never
}

// A LogConfig says how the daemon logs to standard error.
type LogConfig struct {
	Format string `yaml:"format"` // text (default) or json
	Level  string `yaml:"level"`  // debug, info (default), warn or error
}

// A MetricsConfig says where Prometheus finds the metrics.
type MetricsConfig struct {
	Listen string `yaml:"listen"` // an absolute path, or a loopback address and port
}

// A KeyConfig is one key with its versions.
type KeyConfig struct {
	Name     string          `yaml:"name"`
	Use      string          `yaml:"use"`
	Algs     []string        `yaml:"algs"`
	Verify   *bool           `yaml:"verify"` // verify each signature before it leaves; true if absent
	JWT      *JWTConfig      `yaml:"jwt"`
	Versions []VersionConfig `yaml:"versions"`
}

// A JWTConfig holds the claim policy of a key, or what a grant narrows it to; see
// policy.JWT.
type JWTConfig struct {
	Policy    string                 `yaml:"policy"` // enforce (default) or dry-run
	Issuer    string                 `yaml:"issuer"`
	Issuers   []string               `yaml:"issuers"`
	Audiences []string               `yaml:"audiences"`
	Subjects  []string               `yaml:"subjects"`
	MaxTTL    string                 `yaml:"max_ttl"`
	TTL       string                 `yaml:"ttl"`
	Skew      string                 `yaml:"skew"`
	Typ       string                 `yaml:"typ"` // JWT if absent
	Required  []string               `yaml:"required"`
	Forbidden []string               `yaml:"forbidden"`
	Secret    []string               `yaml:"secret"`
	NotSecret []string               `yaml:"not_secret"`
	Values    map[string]ValueConfig `yaml:"values"`
	MaxBytes  int                    `yaml:"max_bytes"`
	MaxDepth  int                    `yaml:"max_depth"`
}

// A ValueConfig says what the value of a claim must keep; see policy.Value.
type ValueConfig struct {
	Type      string   `yaml:"type"`
	OneOf     []any    `yaml:"one_of"` // strings, whole numbers, true and false
	Pattern   string   `yaml:"pattern"`
	Words     []string `yaml:"words"`
	MaxLength int      `yaml:"max_length"`
	Min       *int64   `yaml:"min"`
	Max       *int64   `yaml:"max"`
}

// A VersionConfig is one key pair in one backend, or in several: then Refs takes the
// place of Backend and Ref.
type VersionConfig struct {
	Backend   string      `yaml:"backend"`
	Ref       string      `yaml:"ref"`
	Refs      []RefConfig `yaml:"refs"`
	KID       string      `yaml:"kid"`
	NotBefore string      `yaml:"not_before"` // RFC 3339
}

// A RefConfig is one of several places of a key pair.
type RefConfig struct {
	Backend string `yaml:"backend"`
	Ref     string `yaml:"ref"`
}

// places returns where the version is.
func (c VersionConfig) places() []RefConfig {
	if len(c.Refs) > 0 {
		return c.Refs
	}
	return []RefConfig{{c.Backend, c.Ref}}
}

// A GrantConfig allows peers operations on keys; see policy.Grant.
type GrantConfig struct {
	Peer              PeerConfig `yaml:"peer"`
	Ops               []string   `yaml:"ops"`
	Keys              []string   `yaml:"keys"`
	BypassClaimPolicy bool       `yaml:"bypass_claim_policy"`
	JWT               *JWTConfig `yaml:"jwt"` // narrows the claim policy of the keys
}

// A PeerConfig names a user or a group, each by name or id.
type PeerConfig struct {
	User  any `yaml:"user"`
	Group any `yaml:"group"`
}

// A document is a config file that was read, and knows where in it things are.
type document struct {
	Config
	name string // for errors
	path string // of the file, or empty if there is none
	tree *ast.File
}

// maxConfig is far more than any config needs.
const maxConfig = 4 << 20

// readConfig reads the config file. Its errors begin with file, line and column,
// and never hold a value of the file.
func readConfig(path string) (*document, error) {
	f, err := os.Open(path) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("%s: longer than %d bytes", path, maxConfig)
	}
	d, err := parseConfig(path, data)
	if err != nil {
		return nil, err
	}
	d.path = path
	return d, nil
}

func parseConfig(name string, data []byte) (*document, error) {
	d := &document{name: name}
	var err error
	if d.tree, err = parser.ParseBytes(data, 0); err != nil {
		return nil, d.yamlError(err)
	}
	if len(d.tree.Docs) != 1 || d.tree.Docs[0].Body == nil {
		return nil, fmt.Errorf("%s: %d YAML documents where there should be one", name, len(d.tree.Docs))
	}
	var odd oddities
	ast.Walk(&odd, d.tree.Docs[0].Body)
	if odd.node != nil {
		return nil, d.errorAt(odd.node, odd.problem)
	}
	err = yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&d.Config)
	if err != nil {
		return nil, d.yamlError(err)
	}
	return d, nil
}

// oddities finds what makes a YAML file say something else than it seems to.
type oddities struct {
	node    ast.Node // the first
	problem string
}

// Visit implements [ast.Visitor].
func (o *oddities) Visit(n ast.Node) ast.Visitor {
	if o.node == nil {
		if o.problem = oddity(n); o.problem != "" {
			o.node = n
		}
	}
	return o
}

func oddity(n ast.Node) string {
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		return "anchors, aliases, merge keys and tags are not used here"
	case *ast.NullNode:
		return "no value: give one, or leave the member out" // "jwt:" alone would set a key free
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		// 0660 and 0o660 are 432, and a socket of mode 0432 is open to everybody.
		if text := n.GetToken().Value; strconv.Itoa(atoi(text)) != text {
			return "not a plain whole number: write it in quotes"
		}
	}
	return ""
}

// atoi is 0 for what is no decimal number.
func atoi(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

// yamlError puts the place before an error of the YAML library. Its own rendering
// would show the lines around it, and they may hold a PIN that has no business
// there.
func (d *document) yamlError(err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil {
		return fmt.Errorf("%s: not the YAML of a config file", d.name)
	}
	at := ye.GetToken().Position
	return fmt.Errorf("%s:%d:%d: %s", d.name, at.Line, at.Column, ye.GetMessage())
}

// at returns err with the place of path, such as "$.keys[0].jwt", or of the
// nearest node above it that the file has.
func (d *document) at(path string, err error) error {
	for p := path; p != "$" && p != ""; p = parent(p) {
		yp, perr := yaml.PathString(p)
		if perr != nil { // a name cut in two
			continue
		}
		if node, ferr := yp.FilterFile(d.tree); ferr == nil && node != nil {
			return d.errorAt(node, path[min(2, len(path)):]+": "+err.Error(), err)
		}
	}
	return fmt.Errorf("%s: %s: %w", d.name, path[min(2, len(path)):], err)
}

func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '.' || path[i] == '[' {
			return path[:i]
		}
	}
	return ""
}

// errorAt returns an error with the place of node in front of text. It wraps
// cause, if there is one.
func (d *document) errorAt(node ast.Node, text string, cause ...error) error {
	pos := node.GetToken().Position
	switch n := node.(type) { // the token of a block is a colon
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			pos = n.Values[0].Key.GetToken().Position
		}
	case *ast.MappingValueNode:
		pos = n.Key.GetToken().Position
	}
	place := &placedError{text: fmt.Sprintf("%s:%d:%d: %s", d.name, pos.Line, pos.Column, text)}
	if len(cause) > 0 {
		place.cause = cause[0]
	}
	return place
}

type placedError struct {
	text  string
	cause error
}

// Error implements error.
func (e *placedError) Error() string { return e.text }

// Unwrap returns the cause.
func (e *placedError) Unwrap() error { return e.cause }
