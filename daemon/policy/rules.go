package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"signetd/signer"
)

// The defaults of a [JWT].
const (
	DefaultSkew     = time.Minute
	DefaultTyp      = "JWT"
	DefaultMaxBytes = 16 << 10
	DefaultMaxDepth = 16
)

// MaxJTI is the greatest length in bytes of a "jti" that a peer sets.
const MaxJTI = 256

// The greatest times that a config can set.
const (
	mostTTL  = 10 * 366 * 24 * time.Hour
	mostSkew = time.Hour
)

// A JWT is the claim policy of a key, or the part of it that a grant narrows (RFC 7519,
// RFC 8725), as in the config. [JWT.Compile] makes [Rules] of it.
//
// A pattern is an exact text, or a text that ends in a star. The star must come after
// one of / : . | # - _, and in a URL after a slash behind the host. It stands for one
// character or more, without the segments "." and "..".
type JWT struct {
	// Issuer is the "iss" that is added to claims that have none.
	Issuer string `yaml:"issuer"`
	// Issuers are the values that "iss" may have. If it is empty, Issuer is the only one.
	// If there are several and Issuer is empty, claims must have an "iss".
	Issuers []string `yaml:"issuers"`
	// Audiences are patterns. Claims must have an audience, and each value of "aud" must
	// match a pattern.
	Audiences []string `yaml:"audiences"`
	// Subjects are patterns, of which "sub" must match one. If it is empty, a token may
	// have any subject or none.
	Subjects []string `yaml:"subjects"`
	// MaxTTL is the longest time from "iat" to "exp", in whole seconds.
	MaxTTL time.Duration `yaml:"max_ttl"`
	// TTL is the time from "iat" to "exp" if the request asks for none; MaxTTL if zero.
	TTL time.Duration `yaml:"ttl"`
	// Skew is how far clocks may differ: how far "iat" may be from now, and "nbf" before
	// "iat". Verification allows it too. [DefaultSkew] if zero.
	Skew time.Duration `yaml:"skew"`
	// Typ is the "typ" of the header (RFC 8725 section 3.11); [DefaultTyp] if empty.
	Typ string `yaml:"typ"`
	// Required are claims that a token must have, with a value other than null.
	Required []string `yaml:"required"`
	// Forbidden are names that no member may have, at any depth. Case, and any of "_-. "
	// between the words of a name, make no difference. If "nbf" or "jti" is among them,
	// the daemon does not add that claim.
	Forbidden []string `yaml:"forbidden"`
	// Secret are names that only sealed tokens may have, in addition to the usual ones
	// such as password and ssn. They are compared as those of Forbidden are.
	Secret []string `yaml:"secret"`
	// NotSecret are names that look like those of secrets and are harmless here.
	NotSecret []string `yaml:"not_secret"`
	// Values are rules on the values of claims, by name.
	Values map[string]Value `yaml:"values"`
	// MaxBytes is the greatest length of the claims of a request; [DefaultMaxBytes] if
	// zero.
	MaxBytes int `yaml:"max_bytes"`
	// MaxDepth is how deep objects and arrays may be nested in the claims, which are depth
	// 1 themselves; [DefaultMaxDepth] if zero.
	MaxDepth int `yaml:"max_depth"`
	// Mode is [Enforce] or [DryRun]; Enforce if empty.
	Mode Mode `yaml:"policy"`
}

// A Mode says what happens to claims that break the rules.
type Mode string

const (
	// Enforce denies them.
	Enforce Mode = "enforce"
	// DryRun signs them, and records the rule that they break. Claims that are not safe
	// JSON, or whose members have the wrong types, are refused in either mode.
	DryRun Mode = "dry-run"
)

// A RuleError is a faulty rule. It wraps [signer.ErrInvalid].
type RuleError struct {
	Path []string // to the member: its names in the config, and indexes such as "[0]"
	Err  error
}

// Error implements error.
func (e *RuleError) Error() string { return strings.Join(e.Path, ".") + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *RuleError) Unwrap() error { return e.Err }

func ruleError(err error, path ...string) error {
	if !errors.Is(err, signer.ErrInvalid) {
		err = fmt.Errorf("%w: %w", signer.ErrInvalid, err)
	}
	return &RuleError{slices.DeleteFunc(path, func(p string) bool { return p == "" }), err}
}

func index(i int) string { return fmt.Sprintf("[%d]", i) }

var (
	errNoAudiences = errors.New("missing or empty: a token must say who it is for")
	errMode        = errors.New("must be enforce or dry-run")
	errTyp         = errors.New("must be a media type without application/, such as at+jwt")
)

// Rules are a claim policy that is ready for use. They are immutable and safe for
// concurrent use.
type Rules struct {
	from JWT // with defaults in the place of zero values

	issuers     []string
	audiences   []pattern
	subjects    []pattern
	forbidden   map[string]bool // normalized
	secret      secretSet
	values      []*valueRule
	without     struct{ nbf, jti bool } // forbidden, so the daemon does not add it
	ttl, maxTTL int64                   // seconds
	skew        int64                   // seconds
	verifier    *Verifier
}

// Compile returns the rules, or a *[RuleError] that names the faulty member.
func (j *JWT) Compile() (*Rules, error) {
	r := &Rules{from: *j}
	c := &r.from
	c.Skew = cmp.Or(c.Skew, DefaultSkew)
	c.Typ = cmp.Or(c.Typ, DefaultTyp)
	c.TTL = cmp.Or(c.TTL, c.MaxTTL)
	c.MaxBytes = cmp.Or(c.MaxBytes, DefaultMaxBytes)
	c.MaxDepth = cmp.Or(c.MaxDepth, DefaultMaxDepth)

	for _, compile := range []func() error{r.compileParties, r.compileTimes, r.compileNames, r.compileRest} {
		if err := compile(); err != nil {
			return nil, err
		}
	}

	r.verifier = &Verifier{
		typ: c.Typ, issuers: r.issuers, audiences: r.audiences, skew: c.Skew, required: c.Required,
	}
	return r, nil
}

// compileParties compiles the rules on issuers, audiences and subjects.
func (r *Rules) compileParties() (err error) {
	c := &r.from
	if c.Issuer == "" && len(c.Issuers) == 0 {
		return ruleError(errors.New("missing: set issuer or issuers"), "issuer")
	}

	r.issuers = c.Issuers
	if len(r.issuers) == 0 {
		r.issuers = []string{c.Issuer}
	}
	for i, issuer := range r.issuers {
		switch {
		case issuer == "":
			return ruleError(errors.New("is empty"), "issuers", index(i))
		case !utf8.ValidString(issuer):
			return ruleError(errors.New("is not UTF-8"), "issuers", index(i))
		case slices.Contains(r.issuers[:i], issuer):
			return ruleError(errors.New("appears twice"), "issuers", index(i))
		}
	}

	if c.Issuer == "" && len(r.issuers) == 1 {
		c.Issuer = r.issuers[0]
	}
	if c.Issuer != "" && !slices.Contains(r.issuers, c.Issuer) {
		return ruleError(errors.New("is not among the issuers"), "issuer")
	}

	if len(c.Audiences) == 0 {
		return ruleError(errNoAudiences, "audiences")
	}
	if r.audiences, err = compilePatterns("audiences", c.Audiences); err != nil {
		return err
	}
	r.subjects, err = compilePatterns("subjects", c.Subjects)
	return err
}

func compilePatterns(member string, texts []string) ([]pattern, error) {
	var list []pattern
	for i, text := range texts {
		p, err := parsePattern(text)
		if err != nil {
			return nil, ruleError(err, member, index(i))
		}
		list = append(list, p)
	}
	return list, nil
}

func (r *Rules) compileTimes() error {
	c := &r.from
	for _, t := range []struct {
		member     string
		value, max time.Duration
	}{{"max_ttl", c.MaxTTL, mostTTL}, {"ttl", c.TTL, c.MaxTTL}, {"skew", c.Skew, mostSkew}} {
		if t.value < time.Second || t.value > t.max || t.value%time.Second != 0 {
			return ruleError(fmt.Errorf("must be a duration in a whole number of seconds, from 1s to %s", t.max), t.member)
		}
	}

	r.ttl, r.maxTTL, r.skew = int64(c.TTL/time.Second), int64(c.MaxTTL/time.Second), int64(c.Skew/time.Second)
	return nil
}

// needed are the claims that every token has.
var needed = []string{"iss", "aud", "iat", "exp"}

func (r *Rules) compileNames() error {
	c := &r.from
	for _, list := range []struct {
		member string
		names  []string
	}{{"required", c.Required}, {"forbidden", c.Forbidden}, {"secret", c.Secret}, {"not_secret", c.NotSecret}} {
		for i, name := range list.names {
			if normalize(name) == "" {
				return ruleError(errors.New("an empty name"), list.member, index(i))
			}
		}
	}

	r.forbidden = map[string]bool{}
	for i, name := range c.Forbidden {
		if slices.Contains(needed, normalize(name)) {
			return ruleError(errors.New("every token has this claim"), "forbidden", index(i))
		}
		r.forbidden[normalize(name)] = true
	}
	r.without.nbf, r.without.jti = r.forbidden["nbf"], r.forbidden["jti"]

	for i, name := range c.Required {
		if r.forbidden[normalize(name)] {
			return ruleError(errors.New("is forbidden as well"), "required", index(i))
		}
	}

	for i, name := range c.NotSecret {
		if hasName(c.Secret, name) {
			return ruleError(errors.New("is listed as a secret as well"), "not_secret", index(i))
		}
	}
	r.secret = newSecretSet(c.Secret, c.NotSecret)
	return nil
}

// typForm is a media type without the "application/" that RFC 7515 section 4.1.9
// recommends to leave out.
var typForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$`)

func (r *Rules) compileRest() error {
	c := &r.from
	switch {
	case c.Mode != "" && c.Mode != Enforce && c.Mode != DryRun:
		return ruleError(errMode, "policy")
	case !typForm.MatchString(c.Typ):
		return ruleError(errTyp, "typ")
	case c.MaxBytes < 2 || c.MaxBytes > 1<<30:
		return ruleError(errors.New("must be a number of bytes from 2 to 2^30"), "max_bytes")
	case c.MaxDepth < 1 || c.MaxDepth > maxDepth:
		return ruleError(fmt.Errorf("must be a number from 1 to %d", maxDepth), "max_depth")
	}

	for _, claim := range slices.Sorted(maps.Keys(c.Values)) {
		v, err := compileValue(claim, c.Values[claim])
		if err != nil {
			return err
		}
		r.values = append(r.values, v)
	}
	return nil
}
