// Package policy decides what a peer may do. Grants say which peer may use which key
// for which operation, and claim rules say what a key may sign. The package does no
// I/O, so it can be read, tested and fuzzed by itself.
//
// Grants only allow. What no grant allows is denied, and the denial reads the same
// whether the key exists or not.
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

// keyOps are the operations on a key, each with the use that the key must have (empty
// for any use). hostOps are the other operations that a grant can allow.
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

// claimOps are the operations that sign claims under the key's rules.
var claimOps = []api.Op{api.OpSignJWT, api.OpSealJWT}

// A Peer is the process at the other end of the socket, as the kernel reports it.
type Peer struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
	PID    int32    // only for the log, because the kernel reuses process ids
}

// LogValue implements [slog.LogValuer].
func (p Peer) LogValue() slog.Value {
	return slog.GroupValue(slog.Uint64("uid", uint64(p.UID)), slog.Uint64("gid", uint64(p.GID)), slog.Int64("pid", int64(p.PID)))
}

// A Match says which peers a grant is for: exactly one field is set. Root needs a
// grant like any other user.
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
	Keys []string `yaml:"keys"` // empty for operations that are not on a key
	// BypassClaimPolicy must be set to grant [api.OpSignJWS], [api.OpSignDigest] or [api.OpSignMAC]
	// on a key that has claim rules, because each of them can sign any claims.
	BypassClaimPolicy bool `yaml:"bypass_claim_policy"`
	// JWT narrows the keys' claim rules for tokens that are signed under this grant. If it
	// is nil, the keys' own rules apply. See [Rules.Narrow].
	JWT *JWT `yaml:"jwt"`
}

// A Key is what the policy knows about a key.
type Key struct {
	Name string
	Use  signer.Use
	JWT  *JWT // the claim rules, or nil
	Of   Owner
}

// An Owner says who holds the private half of a key. Keys, recipients and trusted
// issuers share one set of names, because grants name all three.
type Owner int

// The owners of keys.
const (
	Own       Owner = iota // the daemon
	Recipient              // another party, to which peers encrypt
	Issuer                 // another party, whose tokens peers verify
)

// refusal says why op is not possible with a key of another party, or is empty.
func (o Owner) refusal(op api.Op) string {
	switch {
	case o == Recipient && op != api.OpEncrypt:
		return "a recipient, which only encrypt can be granted on"
	case o == Issuer && op != api.OpVerify && op != api.OpVerifyJWS:
		return "a trusted issuer, which only verify and verify-jws can be granted on"
	}
	return ""
}

// A Policy is a set of grants over a set of keys. It is immutable and safe for
// concurrent use.
type Policy struct {
	keys map[string]key

	// The grants for each use, and those that allow an operation on at least one key, in
	// the order of the config. With these the cost of a request does not grow with the
	// number of grants for other keys and operations.
	uses map[use][]*grant
	ops  map[api.Op][]*grant
}

// A key is a [Key] with its compiled rules, which are nil if it has none.
type key struct {
	Key
	rules *Rules
}

// A grant is a [Grant] with the rules that it narrows, by the name of their key.
type grant struct {
	Grant
	narrowed map[string]*Rules
}

// An Error is a grant that is refused. Grant is its index. Err is a *[RuleError] if
// the fault is in the grant's claim rules.
type Error struct {
	Grant int
	Err   error
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("grant %d: %v", e.Grant+1, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns the policy of grants over keys. A grant that could never be used, or
// that would bypass claim rules without saying so, is an *[Error].
func New(keys []Key, grants []Grant) (*Policy, error) {
	p := &Policy{keys: map[string]key{}, uses: map[use][]*grant{}, ops: map[api.Op][]*grant{}}
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

		for _, op := range g.Ops {
			if _, onKey := keyOps[op]; onKey {
				p.add(op, compiled)
			} else {
				p.uses[use{op: op}] = appendOnce(p.uses[use{op: op}], compiled)
			}
		}
		p.add(api.OpList, compiled) // a peer that may use a key may see its public half
	}
	return p, nil
}

// add enters g as a grant of op on each of its keys.
func (p *Policy) add(op api.Op, g *grant) {
	for _, key := range g.Keys {
		if key == "" { // use{op, ""} would allow the operation without a key
			continue
		}
		p.uses[use{op, key}] = appendOnce(p.uses[use{op, key}], g)
		p.ops[op] = appendOnce(p.ops[op], g)
	}
}

// appendOnce appends g unless it is the last element already. Grants are entered one
// after the other, so a duplicate can only be the last.
func appendOnce(list []*grant, g *grant) []*grant {
	if n := len(list); n > 0 && list[n-1] == g {
		return list
	}
	return append(list, g)
}

func (p *Policy) checkGrant(g Grant) error {
	if (g.Peer.UID == nil) == (g.Peer.GID == nil) {
		return errors.New("peer: name one user or one group")
	}
	if len(g.Ops) == 0 {
		return errors.New("ops: missing or empty: list at least one operation")
	}

	onKeys := 0
	for _, op := range g.Ops {
		use, onKey := keyOps[op]
		if !onKey && !slices.Contains(hostOps, op) {
			return fmt.Errorf("ops: unknown operation %.32q", string(op))
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
		return errors.New("keys: missing or empty: list at least one key")
	}
	if onKeys == 0 && len(g.Keys) > 0 {
		return fmt.Errorf("keys: none of the operations %v acts on a key: remove this member", g.Ops)
	}
	return nil
}

func (p *Policy) checkKeyOp(g Grant, op api.Op, use signer.Use, name string) error {
	key, ok := p.keys[name]
	switch {
	case !ok:
		return fmt.Errorf("keys: no key, issuer or recipient is named %q", name)
	case key.Of.refusal(op) != "":
		return fmt.Errorf("ops: %s is not possible with %q: it is %s", op, name, key.Of.refusal(op))
	case use != "" && key.Use != use:
		return fmt.Errorf("ops: %s needs a key with use %s, and key %q has use %s", op, use, name, key.Use)
	case (op == api.OpSignJWT || op == api.OpSealJWT || op == api.OpVerify) && key.JWT == nil && key.Of == Own:
		return fmt.Errorf("ops: %s needs a jwt block in key %q, which says the issuer, audiences and lifetime of its tokens", op, name)
	case (op == api.OpSignJWS || op == api.OpSignDigest || op == api.OpSignMAC) && key.JWT != nil && !g.BypassClaimPolicy:
		return fmt.Errorf("ops: %s would bypass the jwt block of key %q: if you want that, set bypass_claim_policy: true", op, name)
	}
	return nil
}

// narrow returns the rules of each key of a grant that has a jwt block of its own.
func (p *Policy) narrow(g Grant) (map[string]*Rules, error) {
	signsClaims := slices.ContainsFunc(g.Ops, func(op api.Op) bool { return slices.Contains(claimOps, op) })
	if !signsClaims || g.BypassClaimPolicy {
		return nil, fmt.Errorf("%w: jwt: it has no effect here: it narrows sign-jwt and seal-jwt, in a grant without bypass_claim_policy", signer.ErrInvalid)
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

// Check returns nil if a grant allows peer to do op on key, and ErrDenied if none
// does. For an operation that is not on a key, key is empty. Ask before the key is
// looked up: the answer for a key that does not exist is the same as for one that the
// peer may not use.
func (p *Policy) Check(peer Peer, op api.Op, key string) error {
	if p.Allows(peer, op, key) {
		return nil
	}
	return noGrant(peer, op, key)
}

func noGrant(peer Peer, op api.Op, key string) error {
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

// Apply is [Rules.Apply] under the grants that let peer do op on key. It tries them in
// the order of the config: the first grant whose rules the claims keep decides what is
// added to them. If the claims keep the rules of no grant, the error is the first
// grant's. The error wraps ErrDenied if peer has no such grant, or the key has no rules.
func (p *Policy) Apply(peer Peer, op api.Op, key string, q ClaimsRequest, now time.Time) (*Claims, error) {
	// The claims are read at most once, however many grants they are held against, and
	// not before a grant that allows their size needs them.
	var doc *document
	defer func() {
		if doc != nil {
			doc.release()
		}
	}()

	var dryRun *Claims // what the first grant signs only because its key is in dry-run
	var denial error   // why the first grant refuses
	k := p.keys[key]
	for _, g := range p.uses[use{op, key}] {
		rules := g.rules(k)
		if rules == nil || !g.Peer.matches(peer) {
			continue
		}

		var claims *Claims
		err := rules.checkSize(q)
		if err == nil && doc == nil {
			doc, err = readDocument(q.Claims)
		}
		if err == nil {
			claims, err = rules.apply(doc, q, now)
		}
		switch {
		case err == nil && len(claims.Would) == 0:
			return claims, nil
		case errors.Is(err, signer.ErrInvalid): // malformed claims: every grant would say the same
			return nil, err
		case dryRun == nil && denial == nil:
			dryRun, denial = claims, err
		}
	}

	if dryRun == nil && denial == nil {
		return nil, noGrant(peer, op, key)
	}
	return dryRun, denial
}

// rules returns the claim rules for tokens that g lets peers sign with k, or nil if
// there are none.
func (g *grant) rules(k key) *Rules {
	if narrowed, ok := g.narrowed[k.Name]; ok {
		return narrowed
	}
	return k.rules
}

// A use is an operation on a key. The key is empty if the operation is not on a key.
type use struct {
	op  api.Op
	key string
}

// Allows reports whether [Policy.Check] returns nil.
func (p *Policy) Allows(peer Peer, op api.Op, key string) bool {
	return anyMatches(p.uses[use{op, key}], peer)
}

// AllowsAny reports whether peer may do op on at least one key.
func (p *Policy) AllowsAny(peer Peer, op api.Op) bool { return anyMatches(p.ops[op], peer) }

func anyMatches(grants []*grant, peer Peer) bool {
	return slices.ContainsFunc(grants, func(g *grant) bool { return g.Peer.matches(peer) })
}

// Keys returns the names of the keys on which peer may do op, sorted.
func (p *Policy) Keys(peer Peer, op api.Op) []string {
	var names []string
	for _, g := range p.ops[op] {
		if g.Peer.matches(peer) {
			names = append(names, g.Keys...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
