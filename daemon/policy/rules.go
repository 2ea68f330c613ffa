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

// What a [JWT] has where it says nothing.
const (
	DefaultSkew     = time.Minute
	DefaultTyp      = "JWT"
	DefaultMaxBytes = 16 << 10
	DefaultMaxDepth = 16
)

// MaxJTI is how many bytes a "jti" that a peer sets may have.
const MaxJTI = 256

// A JWT is the claim policy of a key, or what a grant narrows it to (RFC 7519,
// RFC 8725), as a config has it. [JWT.Compile] makes [Rules] of it.
//
// A pattern is an exact text, or one that ends in a star after one of / : . | # - _,
// and in a URL after a slash behind the host. The star stands for one character
// or more, without segments of dots.
type JWT struct {
	// Issuer is the "iss" of tokens whose claims have none.
	Issuer string `yaml:"issuer"`
	// Issuers are the values that "iss" may have; Issuer alone if it is empty. With
	// several and no Issuer, claims have to have one.
	Issuers []string `yaml:"issuers"`
	// Audiences are patterns, and each value of "aud" must match one. Claims without
	// an audience are denied.
	Audiences []string `yaml:"audiences"`
	// Subjects are patterns of which "sub" must match one. Without any, a token may
	// have any subject or none.
	Subjects []string `yaml:"subjects"`
	// MaxTTL is the longest time from "iat" to "exp", in whole seconds.
	MaxTTL time.Duration `yaml:"max_ttl"`
	// TTL is the time from "iat" to "exp" of a token for which none is asked; MaxTTL
	// if zero.
	TTL time.Duration `yaml:"ttl"`
	// Skew is how far clocks may differ: "iat" from now, and "nbf" back from "iat".
	// Verification grants it too. [DefaultSkew] if zero.
	Skew time.Duration `yaml:"skew"`
	// Typ is the "typ" of the header (RFC 8725 section 3.11); [DefaultTyp] if empty.
	Typ string `yaml:"typ"`
	// Required are claims that a token must have, with a value other than null.
	Required []string `yaml:"required"`
	// Forbidden are names that no member may have, at any depth, whatever its case
	// and whatever of "_-. " is between its words. With "nbf" or "jti" among them,
	// none is added.
	Forbidden []string `yaml:"forbidden"`
	// Secret are names, of members at any depth as with Forbidden, beside the usual
	// ones such as password and ssn, that are for sealed tokens only.
	Secret []string `yaml:"secret"`
	// NotSecret are names that are none of secrets although they look so.
	NotSecret []string `yaml:"not_secret"`
	// Values are rules on the values of claims, by name.
	Values map[string]Value `yaml:"values"`
	// MaxBytes bounds the length of the claims of a request; [DefaultMaxBytes] if zero.
	MaxBytes int `yaml:"max_bytes"`
	// MaxDepth bounds how deep objects and arrays are nested in the claims, which
	// themselves are depth 1; [DefaultMaxDepth] if zero.
	MaxDepth int `yaml:"max_depth"`
	// Mode is [Enforce], which is meant too if it is empty, or [DryRun].
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

// A RuleError is a rule that cannot be right. It wraps [signer.ErrInvalid].
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

// Rules are a claim policy that is ready for use. They are immutable and safe for
// concurrent use.
type Rules struct {
	from JWT // with the defaults

	issuers     []string
	audiences   []pattern
	subjects    []pattern
	forbidden   map[string]bool // normalized
	secret      *secretSet
	values      []*valueRule
	without     struct{ nbf, jti bool } // forbidden, and so not added
	ttl, maxTTL int64                   // seconds
	skew        int64                   // seconds
	verifier    *Verifier
}

// Compile returns the rules, or a *[RuleError] that names the member that cannot
// be right.
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

// compileParties reads who issues, for whom and of whom.
func (r *Rules) compileParties() (err error) {
	c := &r.from
	if c.Issuer == "" && len(c.Issuers) == 0 {
		return ruleError(errors.New("none"), "issuer")
	}
	r.issuers = c.Issuers
	if len(r.issuers) == 0 {
		r.issuers = []string{c.Issuer}
	}
	for i, issuer := range r.issuers {
		if issuer == "" || !utf8.ValidString(issuer) || slices.Contains(r.issuers[:i], issuer) {
			return ruleError(errors.New("empty, no UTF-8, or there twice"), "issuers", index(i))
		}
	}
	if c.Issuer == "" && len(r.issuers) == 1 {
		c.Issuer = r.issuers[0]
	}
	if c.Issuer != "" && !slices.Contains(r.issuers, c.Issuer) {
		return ruleError(errors.New("it is not among the issuers"), "issuer")
	}
	if len(c.Audiences) == 0 {
		return ruleError(errors.New("none: a token says whom it is for"), "audiences")
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

// The bounds of a config's times.
const (
	mostTTL  = 10 * 366 * 24 * time.Hour
	mostSkew = time.Hour
)

func (r *Rules) compileTimes() error {
	c := &r.from
	for _, t := range []struct {
		member     string
		value, max time.Duration
	}{{"max_ttl", c.MaxTTL, mostTTL}, {"ttl", c.TTL, c.MaxTTL}, {"skew", c.Skew, mostSkew}} {
		if t.value < time.Second || t.value > t.max || t.value%time.Second != 0 {
			return ruleError(fmt.Errorf("a whole number of seconds, from 1s to %s", t.max), t.member)
		}
	}
	r.ttl, r.maxTTL, r.skew = int64(c.TTL/time.Second), int64(c.MaxTTL/time.Second), int64(c.Skew/time.Second)
	return nil
}

// needed are the claims that every token has.
var needed = []string{"iss", "aud", "iat", "exp"}

func (r *Rules) compileNames() error {
	c := &r.from
	r.forbidden = map[string]bool{}
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
	for i, name := range c.Forbidden {
		if slices.Contains(needed, normalize(name)) {
			return ruleError(errors.New("every token has this claim"), "forbidden", index(i))
		}
		r.forbidden[normalize(name)] = true
	}
	r.without.nbf, r.without.jti = r.forbidden["nbf"], r.forbidden["jti"]
	for i, name := range c.Required {
		if r.forbidden[normalize(name)] {
			return ruleError(errors.New("forbidden as well"), "required", index(i))
		}
	}
	for i, name := range c.NotSecret {
		if hasName(c.Secret, name) {
			return ruleError(errors.New("a secret as well"), "not_secret", index(i))
		}
	}
	r.secret = newSecretSet(c.Secret, c.NotSecret)
	return nil
}

// typForm is a media type without the "application/" that RFC 7515 section 4.1.9
// has one leave out.
var typForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$`)

func (r *Rules) compileRest() error {
	c := &r.from
	switch {
	case c.Mode != "" && c.Mode != Enforce && c.Mode != DryRun:
		return ruleError(errors.New("must be enforce or dry-run"), "policy")
	case !typForm.MatchString(c.Typ):
		return ruleError(errors.New("a media type without application/, such as at+jwt"), "typ")
	case c.MaxBytes < 2 || c.MaxBytes > 1<<30:
		return ruleError(errors.New("a number of bytes from 2 to 2^30"), "max_bytes")
	case c.MaxDepth < 1 || c.MaxDepth > maxDepth:
		return ruleError(fmt.Errorf("a number from 1 to %d", maxDepth), "max_depth")
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
