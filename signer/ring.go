package signer

import (
	"fmt"
	"slices"
	"time"
)

// A NamedKey is all versions of one key under the name that issuers and grants use. The
// name never changes; versions come and go.
type NamedKey struct {
	Name     string
	Versions []*Version
}

// A Ring holds every key by name. Only the ring knows names and kids: a backend knows refs.
// It is immutable and safe for concurrent use.
type Ring struct {
	keys   []NamedKey
	names  map[string]int // index into keys
	kids   map[string]kidOwner
	unseen []NamedKey
}

type kidOwner struct {
	name    string
	version *Version
}

// NewRing returns the ring of keys. Errors are ErrInvalid.
//
// Names and kids must be unique. A key needs a version, and all its versions have one use
// and the same algorithms: otherwise the answer to a request would depend on the day. A key
// pair has one name: otherwise a signature that the rules of one name forbid could be made
// under the other.
func NewRing(keys []NamedKey) (*Ring, error) {
	r := &Ring{names: map[string]int{}, kids: map[string]kidOwner{}}
	pairs := map[string]string{} // thumbprint to name
	for _, k := range keys {
		if _, ok := r.names[k.Name]; ok || k.Name == "" {
			return nil, fmt.Errorf("%w: key name %q is empty or appears twice", ErrInvalid, k.Name)
		}
		if len(k.Versions) == 0 {
			return nil, fmt.Errorf("%w: key %q has no versions", ErrInvalid, k.Name)
		}

		for _, v := range k.Versions {
			if !slices.Equal(v.algs, k.Versions[0].algs) {
				return nil, fmt.Errorf("%w: key %q: versions with different algorithms", ErrInvalid, k.Name)
			}
			if v.kid == "" { // nothing is known of it yet
				continue
			}

			if other, ok := r.kids[v.kid]; ok {
				return nil, fmt.Errorf("%w: keys %q and %q: the same kid %q: one key pair, or one kid, is configured twice", ErrInvalid, other.name, k.Name, v.kid)
			}
			r.kids[v.kid] = kidOwner{k.Name, v}

			// A kid may be set by hand, so equal key pairs can have different kids. Equal
			// secrets cannot be found out.
			if v.Symmetric() || !v.Seen() {
				continue
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

// Unseen returns the keys that have versions whose kid is not known yet, with only these
// versions, in the order of the config. A kid that no version has may belong to one of them.
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

// Active returns the version that signs and encrypts at the given time: of those whose
// not-before has come, the one with the latest, and the first listed among equals. This
// follows from config and clock, so that many hosts agree on it. While the backend of that
// version is away, the next version in this order whose backend is there takes its place.
//
// Errors are ErrNotFound if no version has become active yet, and ErrUnavailable if no
// backend has opened one of those that have.
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

// Intended is [NamedKey.Active] by config and clock alone, for opening what was made for
// that version: no other version can.
func (k NamedKey) Intended(now time.Time) (*Version, error) {
	list, err := k.started(now)
	if err != nil {
		return nil, err
	}
	return list[0], list[0].seen()
}

// Candidates returns the versions that may sign at the given time, in the order in which
// to try them: as for [NamedKey.Active], and those that are away last. The caller tries
// each until one is not ErrUnavailable.
//
// A version that is away and due to be looked at keeps its place, for one caller after each
// pause: that caller finds out whether it is back.
func (k NamedKey) Candidates(now time.Time) ([]*Version, error) {
	list, err := k.started(now)
	if err != nil || len(list) == 1 {
		return list, err
	}

	first := make([]*Version, 0, len(list))
	var away []*Version
	found := false // a version that is there: those after it are not looked at
	for _, v := range list {
		there := !v.away()
		if there || !found && v.look(now) {
			first = append(first, v)
		} else {
			away = append(away, v)
		}
		found = found || there
	}
	return append(first, away...), nil
}

// started returns the versions whose not-before has come, the latest first: at least one.
func (k NamedKey) started(now time.Time) ([]*Version, error) {
	if len(k.Versions) == 1 && !k.Versions[0].notBefore.After(now) {
		return k.Versions, nil // most keys have one version, and need no copy
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

// JWKS returns the public keys of the versions of the named keys, in the order of the
// config. Versions that are not active yet are among them: a verifier must know a key before
// it signs. Names that are not in the ring are left out, and so are symmetric keys, which
// have no public half.
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
