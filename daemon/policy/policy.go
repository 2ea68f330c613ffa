// Package policy decides what a peer may do: grants say which peer may use which
// key for which operation, and claim rules say what a key may sign. It does no
// I/O, so that it can be read, tested and fuzzed alone.
//
// Grants only allow. What no grant allows is denied, in the same words whether
// the key exists or not.
package policy

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"signetd/daemon/api"
	"signetd/signer"
)

// keyOps are the operations on a key, each with what the key must be for, and hostOps
// all others that a grant can allow.
var keyOps, hostOps = grantable(api.Routes)

func grantable(routes []api.Route) (onKey map[api.Op]signer.Use, onHost []api.Op) {
	onKey = map[api.Op]signer.Use{}
	for _, r := range routes {
		switch {
		case r.Op == "":
		case r.Host:
			onHost = append(onHost, r.Op)
		default:
			onKey[r.Op] = r.Use
		}

		if r.Keyless != "" {
			onHost = append(onHost, r.Keyless)
		}
	}
	return onKey, onHost
}

// A Peer is the process on the other end of the socket, as the kernel knows it.
type Peer struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
	PID    int32    // for the log alone: it can be reused
}

// LogValue implements [slog.LogValuer].
func (p Peer) LogValue() slog.Value {
	return slog.GroupValue(slog.Uint64("uid", uint64(p.UID)), slog.Uint64("gid", uint64(p.GID)), slog.Int64("pid", int64(p.PID)))
}

// A Match says which peers a grant is for: exactly one field is set. Root is a
// peer like any other.
type Match struct {
	UID *uint32
	GID *uint32 // primary or supplementary
}

func (m Match) matches(p Peer) bool {
	if m.UID != nil {
		return *m.UID == p.UID
	}
	return m.GID != nil && (*m.GID == p.GID || slices.Contains(p.Groups, *m.GID))
}

// A Grant allows the matching peers each of the operations on each of the keys.
type Grant struct {
	Peer Match    `yaml:"-"`
	Ops  []api.Op `yaml:"ops"`
	Keys []string `yaml:"keys"` // none for operations that are not on a key
	// BypassClaimPolicy must be set to grant [api.OpSignJWS], [api.OpSignDigest] or [api.OpSignMAC]
	// on a key that has claim rules, since each signs any claims at all.
	BypassClaimPolicy bool `yaml:"bypass_claim_policy"`
	// JWT narrows the claim rules of each of the keys for what this grant allows to
	// sign; nil leaves them as they are. See [Rules.Narrow].
	JWT *JWT `yaml:"jwt"`
}

// A Key is what the policy knows of a key.
type Key struct {
	Name string
	Use  signer.Use
	JWT  *JWT // the claim rules, or nil
	Of   Owner
}

// An Owner says whose key it is. Grants name keys, recipients and trusted issuers
// alike, so that no two have the same name.
type Owner int

// The owners of keys.
const (
	Own       Owner = iota // the daemon, which has the private half
	Recipient              // somebody to encrypt to
	Issuer                 // somebody whose tokens are trusted
)

// lacks says why op does not go with a key of somebody else, or "".
func (o Owner) lacks(op api.Op) string {
	switch {
	case o == Recipient && op != api.OpEncrypt:
		return "a recipient: it takes encrypt alone"
	case o == Issuer && op != api.OpVerify && op != api.OpVerifyJWS:
		return "a trusted issuer: it takes verify and verify-jws alone"
	}
	return ""
}

// A Policy is a set of grants over a set of keys. It is immutable and safe for
// concurrent use.
type Policy struct {
	index grantIndex
	keys  map[string]key
}

// A key is a Key with its rules, or none.
type key struct {
	Key
	rules *Rules
}

// A grant is a Grant with the rules, by key, that it narrows.
type grant struct {
	Grant
	narrowed map[string]*Rules
}

// An Error is a grant that cannot be right. Grant is its index. Err is a
// *[RuleError] if it is about its claim rules.
type Error struct {
	Grant int
	Err   error
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("grant %d: %v", e.Grant+1, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns the policy of grants over keys. A grant that could never be used,
// or that opens more than it says, is an *[Error].
func New(keys []Key, grants []Grant) (*Policy, error) {
	p := &Policy{keys: map[string]key{}}
	for _, k := range keys {
		compiled := key{Key: k}
		if k.JWT != nil {
			var err error
			if compiled.rules, err = k.JWT.Compile(); err != nil {
				return nil, fmt.Errorf("key %.64q: jwt: %w", k.Name, err)
			}
		}
		p.keys[k.Name] = compiled
	}
	all := make([]*grant, len(grants))
	for i, g := range grants {
		if err := p.checkGrant(g); err != nil {
			return nil, &Error{i, fmt.Errorf("%w: %w", signer.ErrInvalid, err)}
		}
		compiled := &grant{Grant: g}
		if g.JWT != nil {
			var err error
			if compiled.narrowed, err = p.narrow(g); err != nil {
				return nil, &Error{i, err}
			}
		}
		all[i] = compiled
	}
	p.index = indexGrants(all)
	return p, nil
}

// claimOps are the operations that sign claims by the rules of the key.
var claimOps = []api.Op{api.OpSignJWT, api.OpSealJWT}

// narrow returns the rules of each key of a grant that has rules of its own.
func (p *Policy) narrow(g Grant) (map[string]*Rules, error) {
	if g.BypassClaimPolicy || !slices.ContainsFunc(g.Ops, func(op api.Op) bool { return slices.Contains(claimOps, op) }) {
		return nil, fmt.Errorf("%w: jwt: it narrows what sign-jwt and seal-jwt may sign, of which none is granted, or which are bypassed", signer.ErrInvalid)
	}
	narrowed := map[string]*Rules{}
	for _, name := range g.Keys {
		rules, err := p.keys[name].rules.Narrow(g.JWT)
		if err != nil {
			return nil, err
		}
		narrowed[name] = rules
	}
	return narrowed, nil
}

func (p *Policy) checkGrant(g Grant) error {
	if (g.Peer.UID == nil) == (g.Peer.GID == nil) {
		return fmt.Errorf("peer: name a user or a group, not both")
	}
	if len(g.Ops) == 0 {
		return fmt.Errorf("ops: none")
	}
	onKeys := 0
	for _, op := range g.Ops {
		use, onKey := keyOps[op]
		if !onKey && !slices.Contains(hostOps, op) {
			return fmt.Errorf("ops: %.32q is no operation", string(op))
		}
		if !onKey {
			continue
		}
		onKeys++
		for _, name := range g.Keys {
			if err := p.checkKeyOp(g, op, use, name); err != nil {
				return err
			}
		}
	}
	if onKeys > 0 && len(g.Keys) == 0 {
		return fmt.Errorf("keys: none")
	}
	if onKeys == 0 && len(g.Keys) > 0 {
		return fmt.Errorf("keys: %v is not on a key", g.Ops)
	}
	return nil
}

func (p *Policy) checkKeyOp(g Grant, op api.Op, use signer.Use, name string) error {
	key, ok := p.keys[name]
	switch {
	case !ok:
		return fmt.Errorf("keys: no key is named %q", name)
	case key.Of.lacks(op) != "":
		return fmt.Errorf("ops: %s does not go with %q, which is %s", op, name, key.Of.lacks(op))
	case use != "" && key.Use != use:
		return fmt.Errorf("ops: %s does not go with key %q, whose use is %s", op, name, key.Use)
	case (op == api.OpSignJWT || op == api.OpSealJWT || op == api.OpVerify) && key.JWT == nil && key.Of == Own:
		return fmt.Errorf("ops: %s needs a jwt block in key %q: issuer, audiences and lifetime are never left open", op, name)
	case (op == api.OpSignJWS || op == api.OpSignDigest || op == api.OpSignMAC) && key.JWT != nil && !g.BypassClaimPolicy:
		return fmt.Errorf("ops: %s on key %q would go round its jwt block; if that is meant, say bypass_claim_policy: true", op, name)
	}
	return nil
}

// Check returns nil if a grant allows peer to do op on key, which is empty for an
// operation that is not on a key, and ErrDenied if none does. It is asked before
// a key is looked up: an unknown key is denied like any other.
func (p *Policy) Check(peer Peer, op api.Op, key string) error {
	if p.Allows(peer, op, key) {
		return nil
	}
	return p.noGrant(peer, op, key)
}

func (*Policy) noGrant(peer Peer, op api.Op, key string) error {
	if key == "" {
		return fmt.Errorf("%w: no grant lets uid %d %s", signer.ErrDenied, peer.UID, op)
	}
	return fmt.Errorf("%w: no grant lets uid %d %s with key %.64q", signer.ErrDenied, peer.UID, op, key)
}

// Ops returns what peer may do with key, sorted.
func (p *Policy) Ops(peer Peer, key string) []api.Op {
	var ops []api.Op
	for op := range keyOps {
		if p.Allows(peer, op, key) {
			ops = append(ops, op)
		}
	}
	slices.Sort(ops)
	return ops
}

// Rules returns the claim rules of a key, or nil if it has none.
func (p *Policy) Rules(key string) *Rules { return p.keys[key].rules }

// Apply is [Rules.Apply] with the rules of the grants that let peer do op on key:
// the first, in the order of the config, whose rules the claims keep says what is
// added to them. If they keep none the error is that of the first. It is
// ErrDenied where there is no such grant, or the key has no rules.
func (p *Policy) Apply(peer Peer, op api.Op, key string, q ClaimsRequest, now time.Time) (*Claims, error) {
	var doc *document
	defer func() {
		if doc != nil {
			doc.release()
		}
	}()
	var noted *Claims // what a key in dry-run signs although it would deny it
	var denial error
	k := p.keys[key]
	for _, g := range p.index.uses[use{op, key}] {
		rules := g.rules(k)
		if rules == nil || !g.Peer.matches(peer) {
			continue
		}
		claims, err := rules.applyOnce(&doc, q, now)
		switch {
		case err == nil && len(claims.Would) == 0:
			return claims, nil
		case errors.Is(err, signer.ErrInvalid): // under each grant alike
			return nil, err
		case noted == nil && denial == nil:
			noted, denial = claims, err
		}
	}
	if noted == nil && denial == nil {
		return nil, p.noGrant(peer, op, key)
	}
	return noted, denial
}

// rules are the claim rules of k for what g, which is on k, lets peers do with it, or nil
// if it has none.
func (g *grant) rules(k key) *Rules {
	if narrowed, ok := g.narrowed[k.Name]; ok {
		return narrowed
	}
	return k.rules
}

// applyOnce is Apply with claims that are read into doc, unless they were.
func (r *Rules) applyOnce(doc **document, q ClaimsRequest, now time.Time) (*Claims, error) {
	if err := r.checkSize(q); err != nil {
		return nil, err
	}
	if *doc == nil {
		var err error
		if *doc, err = readDocument(q.Claims); err != nil {
			return nil, err
		}
	}
	return r.apply(*doc, q, now)
}
