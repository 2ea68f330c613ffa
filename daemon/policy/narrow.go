package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"signetd/signer"
)

// Narrow returns the rules of a grant: those of r, with each rule that n sets in the
// place of the key's. It is a *[RuleError] if a rule of n would allow what r does not.
func (r *Rules) Narrow(n *JWT) (*Rules, error) {
	j := r.from
	for _, narrow := range []func(to, n *JWT) error{r.narrowParties, r.narrowTimes, r.narrowNames, r.narrowRest} {
		if err := narrow(&j, n); err != nil {
			return nil, err
		}
	}
	return j.Compile()
}

var errWider = fmt.Errorf("%w: wider than the key's", signer.ErrInvalid)

func (r *Rules) narrowParties(to, n *JWT) error {
	if n.Issuer != "" && !slices.Contains(r.issuers, n.Issuer) {
		return ruleError(errWider, "issuer")
	}
	for i, issuer := range n.Issuers {
		if !slices.Contains(r.issuers, issuer) {
			return ruleError(errWider, "issuers", index(i))
		}
	}

	switch {
	case n.Issuers != nil:
		to.Issuers = n.Issuers
		if !slices.Contains(n.Issuers, to.Issuer) {
			to.Issuer = ""
		}
		if n.Issuer != "" {
			to.Issuer = n.Issuer
		}
	case n.Issuer != "":
		to.Issuer, to.Issuers = n.Issuer, nil
	}

	if err := narrowPatterns("audiences", &to.Audiences, n.Audiences, r.audiences); err != nil {
		return err
	}
	return narrowPatterns("subjects", &to.Subjects, n.Subjects, r.subjects)
}

// narrowPatterns replaces the patterns of the key, which are compiled in wide, by those
// of a grant. If the key has none, it allows everything.
func narrowPatterns(member string, to *[]string, texts []string, wide []pattern) error {
	if texts == nil {
		return nil
	}
	if len(texts) == 0 {
		return ruleError(errors.New("must not be empty"), member)
	}

	narrow, err := compilePatterns(member, texts)
	if err != nil {
		return err
	}
	for i, p := range narrow {
		if len(wide) > 0 && !slices.ContainsFunc(wide, func(w pattern) bool { return w.covers(p) }) {
			return ruleError(errWider, member, index(i))
		}
	}
	*to = texts
	return nil
}

func (*Rules) narrowTimes(to, n *JWT) error {
	for _, t := range []struct {
		member string
		to     *time.Duration
		n      time.Duration
	}{{"max_ttl", &to.MaxTTL, n.MaxTTL}, {"skew", &to.Skew, n.Skew}} {
		// Before the ttl is held against it: the fault is here, and not there.
		if t.n < 0 {
			return ruleError(fmt.Errorf("%w: must be a duration above zero", signer.ErrInvalid), t.member)
		}
		if t.n > *t.to {
			return ruleError(errWider, t.member)
		}
		if t.n != 0 {
			*t.to = t.n
		}
	}

	if n.TTL != 0 {
		to.TTL = n.TTL
	}

	// If the grant sets both times, Compile holds them against each other. If one of them
	// is the key's, it may not fit the one that the grant sets.
	if n.TTL == 0 || n.MaxTTL == 0 {
		if n.TTL > to.MaxTTL {
			return ruleError(errWider, "ttl")
		}
		to.TTL = min(to.TTL, to.MaxTTL)
	}
	return nil
}

func (*Rules) narrowNames(to, n *JWT) error {
	if err := (&Rules{from: *n}).compileNames(); err != nil {
		return err
	}
	for i, name := range n.NotSecret {
		if !hasName(to.NotSecret, name) {
			return ruleError(errWider, "not_secret", index(i))
		}
	}
	for i, name := range n.Required {
		if hasName(to.Forbidden, name) {
			return ruleError(errors.New("the key forbids it"), "required", index(i))
		}
	}
	for i, name := range n.Forbidden {
		if hasName(to.Required, name) {
			return ruleError(errors.New("the key requires it"), "forbidden", index(i))
		}
	}

	if n.NotSecret != nil {
		to.NotSecret = n.NotSecret
	}
	// A grant can make a secret of a name that the key declares harmless.
	to.NotSecret = slices.DeleteFunc(slices.Clone(to.NotSecret), func(name string) bool { return hasName(n.Secret, name) })

	to.Required = slices.Concat(to.Required, n.Required)
	to.Forbidden = slices.Concat(to.Forbidden, n.Forbidden)
	to.Secret = slices.Concat(to.Secret, n.Secret)
	return nil
}

func hasName(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return normalize(s) == normalize(name) })
}

func (*Rules) narrowRest(to, n *JWT) error {
	switch {
	case n.Mode == DryRun:
		return ruleError(errors.New("dry-run is a setting of the key: a grant cannot change it"), "policy")
	case n.Mode != "" && n.Mode != Enforce:
		return ruleError(errMode, "policy")
	case n.Typ != "" && n.Typ != to.Typ:
		return ruleError(errors.New("the key's typ is fixed"), "typ")
	case n.MaxBytes > to.MaxBytes:
		return ruleError(errWider, "max_bytes")
	case n.MaxDepth > to.MaxDepth:
		return ruleError(errWider, "max_depth")
	}

	if n.MaxBytes != 0 {
		to.MaxBytes = n.MaxBytes
	}
	if n.MaxDepth != 0 {
		to.MaxDepth = n.MaxDepth
	}

	if to.Values = maps.Clone(to.Values); to.Values == nil {
		to.Values = map[string]Value{}
	}
	for _, claim := range slices.Sorted(maps.Keys(n.Values)) {
		if _, err := compileValue(claim, n.Values[claim]); err != nil {
			return err
		}
		v, err := to.Values[claim].narrowedBy(claim, n.Values[claim])
		if err != nil {
			return err
		}
		to.Values[claim] = v
	}
	return nil
}
