package signer

import (
	"fmt"
	"slices"
	"time"
)

// A NamedKey is all versions of one key under the name that issuers and grants
// say. The name never changes; versions come and go.
type NamedKey struct {
	Name     string
	Versions []*Version
}

// A Ring holds every key by name. Only the ring knows names and kids: a backend
// knows refs. It is immutable and safe for concurrent use.
type Ring struct {
	keys   []NamedKey
	names  map[string]int
	kids   map[string]owned
	unseen []NamedKey
}

type owned struct {
	name    string
	version *Version
}

// NewRing returns the ring of keys. Names and kids must be unique, a key needs a
// version, and the versions of a key have one use and the same algorithms, or
// the answer to a request would depend on the day. A key pair has one name, or
// what the rules of one name forbid it would do under the other. Errors are
// ErrInvalid.
func NewRing(keys []NamedKey) (*Ring, error) {
	r := &Ring{names: map[string]int{}, kids: map[string]owned{}}
	pairs := map[string]string{} // thumbprint to name
	for _, k := range keys {
		if _, ok := r.names[k.Name]; ok || k.Name == "" {
			return nil, fmt.Errorf("%w: key name %q is empty or there twice", ErrInvalid, k.Name)
		}
		if len(k.Versions) == 0 {
			return nil, fmt.Errorf("%w: key %q has no versions", ErrInvalid, k.Name)
		}
		for _, v := range k.Versions {
			if other, ok := r.kids[v.kid]; ok && v.kid != "" {
				return nil, fmt.Errorf("%w: keys %q and %q: the same kid %q: one key pair, or one kid, is configured twice", ErrInvalid, other.name, k.Name, v.kid)
			}
			if !slices.Equal(v.algs, k.Versions[0].algs) {
				return nil, fmt.Errorf("%w: key %q: versions with different algorithms", ErrInvalid, k.Name)
			}
			if v.kid == "" {
				continue // nobody has seen it yet
			}
			r.kids[v.kid] = owned{k.Name, v}
			if v.Symmetric() || !v.Seen() {
				continue // nothing to tell it from another by
			}
			pair, err := Thumbprint(v.public)
			if err != nil {
				return nil, err
			}
			if other, ok := pairs[pair]; ok && other != k.Name {
				return nil, fmt.Errorf("%w: keys %q and %q: the same key pair under two names (kid %q)", ErrInvalid, other, k.Name, v.kid)
			}
			pairs[pair] = k.Name
		}
		r.names[k.Name] = len(r.keys)
		r.keys = append(r.keys, NamedKey{Name: k.Name, Versions: slices.Clone(k.Versions)})
		if unseen := slices.DeleteFunc(slices.Clone(k.Versions), func(v *Version) bool { return v.kid != "" }); len(unseen) > 0 {
			r.unseen = append(r.unseen, NamedKey{Name: k.Name, Versions: unseen})
		}
	}
	return r, nil
}

// Keys returns the keys in the order of the config.
func (r *Ring) Keys() []NamedKey { return slices.Clone(r.keys) }

// Unseen returns the keys that have versions of which not even the kid is known, with
// these versions alone, in the order of the config. Any kid may be that of one of them.
func (r *Ring) Unseen() []NamedKey { return slices.Clone(r.unseen) }

// Key returns the key with the given name.
func (r *Ring) Key(name string) (NamedKey, error) {
	i, ok := r.names[name]
	if !ok {
		return NamedKey{}, fmt.Errorf("%w: key %.64q", ErrNotFound, name)
	}
	return r.keys[i], nil
}

// Active returns the version of a key that signs and encrypts at the given time.
func (r *Ring) Active(name string, now time.Time) (*Version, error) {
	k, err := r.Key(name)
	if err != nil {
		return nil, err
	}
	return k.Active(now)
}

// Active returns the version that signs and encrypts at the given time. By config
// and clock it is, of those whose not-before has come, the one with the latest, and
// the first listed among equals, so many hosts agree on it. While its backend is
// away, the next in that order whose backend is not takes its place.
//
// Errors are ErrNotFound if no version's time has come, and ErrUnavailable if no
// backend has opened one of those yet.
func (k NamedKey) Active(now time.Time) (*Version, error) {
	list, err := k.started(now)
	if err != nil {
		return nil, err
	}
	active := list[0]
	if i := slices.IndexFunc(list, func(v *Version) bool { return !v.away() }); i >= 0 {
		active = list[i]
	}
	return active, active.seen()
}

// Intended is [NamedKey.Active] by config and clock alone: what was made for one
// version is of no use to another.
func (k NamedKey) Intended(now time.Time) (*Version, error) {
	list, err := k.started(now)
	if err != nil {
		return nil, err
	}
	return list[0], list[0].seen()
}

// Candidates returns the versions that may sign at the given time, in the order in
// which to try them: as for [NamedKey.Active], and those that are away last. Once
// in a while one of these is in its own place, to see whether it is back: whoever
// asks is to use the versions until one is not ErrUnavailable.
func (k NamedKey) Candidates(now time.Time) ([]*Version, error) {
	list, err := k.started(now)
	if err != nil || len(list) == 1 {
		return list, err
	}
	there := make([]*Version, 0, len(list))
	var away []*Version
	for _, v := range list {
		// Once one is there, nothing is to be learnt of those after it.
		if !v.away() || !slices.ContainsFunc(there, func(t *Version) bool { return !t.away() }) && v.look(now) {
			there = append(there, v)
		} else {
			away = append(away, v)
		}
	}
	return append(there, away...), nil
}

// started returns the versions whose not-before has come, the latest first: at
// least one.
func (k NamedKey) started(now time.Time) ([]*Version, error) {
	if len(k.Versions) == 1 && !k.Versions[0].notBefore.After(now) {
		return k.Versions, nil // no copy, for most keys
	}
	list := make([]*Version, 0, len(k.Versions))
	for _, v := range k.Versions {
		if !v.notBefore.After(now) {
			list = append(list, v)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: key %q: no version is active yet", ErrNotFound, k.Name)
	}
	slices.SortStableFunc(list, func(a, b *Version) int { return b.notBefore.Compare(a.notBefore) })
	return list, nil
}

// Missing reports whether no version of k has been opened yet.
func (k NamedKey) Missing() bool {
	return !slices.ContainsFunc(k.Versions, func(v *Version) bool { return !v.Missing() })
}

// Version returns the version with the given kid, and the name of its key.
func (r *Ring) Version(kid string) (name string, v *Version, err error) {
	p, ok := r.kids[kid]
	if !ok {
		return "", nil, fmt.Errorf("%w: kid %.64q", ErrNotFound, kid)
	}
	return p.name, p.version, nil
}

// JWKS returns the public keys of the versions of the named keys, in the order
// of the config. Versions that are not active yet are among them: a verifier
// must know a key before it signs. Names that are not in the ring are passed
// over, and symmetric keys, which have no public half.
func (r *Ring) JWKS(names ...string) JWKSet {
	set := JWKSet{Keys: []JWK{}}
	for _, k := range r.keys {
		if !slices.Contains(names, k.Name) {
			continue
		}
		for _, v := range k.Versions {
			if jwk := v.JWK(); jwk != nil {
				set.Keys = append(set.Keys, *jwk)
			}
		}
	}
	return set
}
