package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"signetd/daemon/policy"
	"signetd/signer"
)

// keyClaimPolicy reads the jwt block of a key, and checks that it makes rules.
func (d *document) keyClaimPolicy(at string, c JWTConfig) (*policy.JWT, error) {
	j, err := d.claimPolicy(at, c)
	if err != nil {
		return nil, err
	}
	if _, err := j.Compile(); err != nil {
		var rule *policy.RuleError
		if errors.As(err, &rule) {
			return nil, d.atRule(at, rule)
		}
		return nil, d.at(at, err)
	}
	return j, nil
}

// claimPolicy reads a jwt block, of a key or of a grant.
func (d *document) claimPolicy(at string, c JWTConfig) (*policy.JWT, error) {
	j := &policy.JWT{
		Issuer: c.Issuer, Issuers: c.Issuers, Audiences: c.Audiences, Subjects: c.Subjects, Typ: c.Typ,
		Required: c.Required, Forbidden: c.Forbidden, Secret: c.Secret, NotSecret: c.NotSecret,
		MaxBytes: c.MaxBytes, MaxDepth: c.MaxDepth,
	}
	switch c.Policy {
	case "", "enforce":
	case "dry-run":
		j.Mode = policy.DryRun
	default:
		return nil, d.at(at+".policy", fmt.Errorf("%w: enforce or dry-run", signer.ErrInvalid))
	}
	for _, t := range []struct {
		member, text string
		value        *time.Duration
	}{{"max_ttl", c.MaxTTL, &j.MaxTTL}, {"ttl", c.TTL, &j.TTL}, {"skew", c.Skew, &j.Skew}} {
		if t.text == "" {
			continue
		}
		var err error
		if *t.value, err = time.ParseDuration(t.text); err != nil || *t.value <= 0 { // zero would be the default
			return nil, d.at(at+"."+t.member, fmt.Errorf("%w: a duration above zero such as 15m", signer.ErrInvalid))
		}
	}
	for _, claim := range slices.Sorted(maps.Keys(c.Values)) {
		v, err := value(claim, c.Values[claim])
		if err != nil {
			return nil, d.atRule(at, err)
		}
		if j.Values == nil {
			j.Values = map[string]policy.Value{}
		}
		j.Values[claim] = v
	}
	return j, nil
}

// value reads the rules on the values of a claim.
func value(claim string, c ValueConfig) (policy.Value, *policy.RuleError) {
	v := policy.Value{Type: c.Type, Pattern: c.Pattern, Words: c.Words, MaxLength: c.MaxLength, Min: c.Min, Max: c.Max}
	if c.OneOf != nil {
		v.OneOf = []any{}
	}
	for i, one := range c.OneOf {
		switch one := one.(type) {
		case string, bool, int64:
			v.OneOf = append(v.OneOf, one)
		case uint64:
			if one > 1<<53 {
				return v, &policy.RuleError{Path: []string{"values", claim, "one_of", fmt.Sprintf("[%d]", i)}, Err: fmt.Errorf("%w: above 2^53", signer.ErrInvalid)}
			}
			v.OneOf = append(v.OneOf, int64(one))
		default:
			return v, &policy.RuleError{Path: []string{"values", claim, "one_of", fmt.Sprintf("[%d]", i)}, Err: fmt.Errorf("%w: a string, a whole number, or true or false", signer.ErrInvalid)}
		}
	}
	return v, nil
}

var plainMember = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// atRule is at for a rule below the jwt block at path.
func (d *document) atRule(path string, e *policy.RuleError) error {
	for _, p := range e.Path {
		switch {
		case strings.HasPrefix(p, "["):
			path += p
		case plainMember.MatchString(p):
			path += "." + p
		default: // the name of a claim may be a URL
			path += ".'" + p + "'"
		}
	}
	return d.at(path, e.Err)
}
