package config

import (
	"errors"
	"fmt"
	"math"
	"os/user"
	"regexp"
	"slices"
	"strconv"

	"signetd/daemon"
	"signetd/daemon/policy"
	"signetd/signer"
)

// Setup checks keys, issuers, recipients and grants, and returns a setup that has
// everything that needs no backend: the policy, the issuers and the recipients. It reads
// the JWK sets that the file names, and looks up users and groups on this host.
func (f *File) Setup() (setup daemon.Setup, err error) {
	names := names{f, map[string]string{}}
	var known []policy.Key

	for i, k := range f.Keys {
		at := fmt.Sprintf("$.keys[%d]", i)
		if err := names.add(at, k.Name); err != nil {
			return setup, err
		}
		if err := f.checkKey(at, k); err != nil {
			return setup, err
		}
		known = append(known, policy.Key{Name: k.Name, Use: k.Use, JWT: k.JWT})
	}

	for i, c := range f.Issuers {
		at := fmt.Sprintf("$.issuers[%d]", i)
		if err := names.add(at, c.Name); err != nil {
			return setup, err
		}
		issuer, err := f.issuer(at, c)
		if err != nil {
			return setup, err
		}
		setup.Issuers = append(setup.Issuers, issuer)
		known = append(known, policy.Key{Name: c.Name, Use: signer.UseSig, Of: policy.Issuer})
	}

	for i, c := range f.Recipients {
		at := fmt.Sprintf("$.recipients[%d]", i)
		if err := names.add(at, c.Name); err != nil {
			return setup, err
		}
		recipient, err := f.recipient(at, c)
		if err != nil {
			return setup, err
		}
		setup.Recipients = append(setup.Recipients, recipient)
		known = append(known, policy.Key{Name: c.Name, Use: signer.UseEnc, Of: policy.Recipient})
	}

	setup.Policy, err = f.policy(known)
	return setup, err
}

// names holds the names of keys, issuers and recipients apart: grants list them
// together.
type names struct {
	f     *File
	first map[string]string // the place of each name
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func (n names) add(at, name string) error {
	at += ".name"
	if !nameForm.MatchString(name) {
		return n.f.Invalid(at, "must be 1 to 64 of a-z 0-9 . _ - and begin with a letter or a digit")
	}
	if first, ok := n.first[name]; ok {
		return n.f.Twice(at, first)
	}
	n.first[name] = at
	return nil
}

// checkKey checks what can be checked of a key without opening it.
func (f *File) checkKey(at string, k Key) error {
	if k.Use != signer.UseSig && k.Use != signer.UseEnc {
		return f.Invalid(at+".use", "must be sig or enc")
	}

	if len(k.Algs) == 0 {
		return f.Invalid(at+".algs", "is empty")
	}
	for i, alg := range k.Algs {
		if alg.Use() != k.Use {
			return f.Invalid(fmt.Sprintf("%s.algs[%d]", at, i), "%.32q is not an algorithm for use %s", alg, k.Use)
		}
		if err := f.algTwice(at, k.Algs, i); err != nil {
			return err
		}
	}

	if k.JWT == nil {
		return nil
	}
	if k.Use != signer.UseSig {
		return f.Invalid(at+".jwt", "a key of use enc signs no claims")
	}
	if _, err := k.JWT.Compile(); err != nil {
		var rule *policy.RuleError
		if errors.As(err, &rule) {
			return f.atRule(at+".jwt", rule)
		}
		return f.At(at+".jwt", err)
	}
	return nil
}

// algTwice returns an error if algorithm i of the key or issuer at a place is among those
// before it.
func (f *File) algTwice(at string, algs []signer.Alg, i int) error {
	if first := slices.Index(algs, algs[i]); first < i {
		return f.Twice(fmt.Sprintf("%s.algs[%d]", at, i), fmt.Sprintf("%s.algs[%d]", at, first))
	}
	return nil
}

// policy makes the policy of the grants over the keys that they may name.
func (f *File) policy(known []policy.Key) (*policy.Policy, error) {
	var grants []policy.Grant
	for i, c := range f.Grants {
		g := c.Grant
		var err error
		if g.Peer, err = f.peer(fmt.Sprintf("$.grants[%d].peer", i), c.Peer); err != nil {
			return nil, err
		}
		grants = append(grants, g)
	}

	p, err := policy.New(known, grants)
	var bad *policy.Error
	if !errors.As(err, &bad) {
		return p, err
	}
	at := fmt.Sprintf("$.grants[%d]", bad.Grant)
	var rule *policy.RuleError
	if errors.As(bad.Err, &rule) {
		return nil, f.atRule(at+".jwt", rule)
	}
	return nil, f.At(at, bad.Err)
}

func (f *File) peer(at string, p Peer) (m policy.Match, err error) {
	if (p.User == nil) == (p.Group == nil) {
		return m, f.Invalid(at, "must have exactly one of user and group")
	}

	if p.User != nil {
		if m.UID, err = resolve(p.User, userID); err != nil {
			return m, f.Invalid(at+".user", "%w", err)
		}
		return m, nil
	}
	if m.GID, err = resolve(p.Group, groupID); err != nil {
		return m, f.Invalid(at+".group", "%w", err)
	}
	return m, nil
}

func userID(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func groupID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}

// resolve returns the id of a user or a group that the file gives as a number, as digits
// in quotes, or as a name that lookup finds on this host.
func resolve(v any, lookup func(name string) (id string, err error)) (*uint32, error) {
	text := fmt.Sprint(v)
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		if _, ok := v.(string); !ok {
			return nil, errors.New("must be a name or an id")
		}
		found, err := lookup(text)
		if err != nil {
			return nil, fmt.Errorf("this host does not know %.64q", text)
		}
		if id, err = strconv.ParseUint(found, 10, 32); err != nil {
			return nil, fmt.Errorf("the id of %.64q is not a number", text)
		}
	}

	// The kernel takes this id for "leave it as it is".
	n := uint32(id)
	if n == math.MaxUint32 {
		return nil, fmt.Errorf("%d is not the id of a user or group: the system uses it for -1", n)
	}
	return &n, nil
}
