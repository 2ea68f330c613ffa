package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"signetd/signer"
)

// An Accept says which tokens of another party are accepted. Tokens are held against
// the config, and never against what they say about themselves (RFC 8725 sections 3.1,
// 3.8, 3.9 and 3.11).
type Accept struct {
	Algs      []signer.Alg  `yaml:"algs"`      // the algorithms that the issuer signs with; required
	Issuers   []string      `yaml:"-"`         // the values that "iss" may have; required
	Audiences []string      `yaml:"audiences"` // patterns as in [JWT]; one value of "aud" must match one; required
	Typ       string        `yaml:"typ"`       // the "typ" of the header; if empty, JWT or none
	Skew      time.Duration `yaml:"skew"`      // how far clocks may differ; [DefaultSkew] if zero
	Required  []string      `yaml:"required"`  // claims that a token must have, with a value other than null
}

// Compile returns the verifier, or a *[RuleError] that names the faulty member.
func (a *Accept) Compile() (*Verifier, error) {
	v := &Verifier{algs: a.Algs, issuers: a.Issuers, typ: a.Typ, skew: cmp.Or(a.Skew, DefaultSkew), required: a.Required}
	switch {
	case len(a.Algs) == 0:
		return nil, ruleError(errors.New("missing or empty: a token must not choose its own algorithm"), "algs")
	case len(a.Issuers) == 0 || slices.Contains(a.Issuers, ""):
		return nil, ruleError(errors.New("missing, empty, or with an empty element"), "issuers")
	case len(a.Audiences) == 0:
		return nil, ruleError(errNoAudiences, "audiences")
	case v.typ != "" && !typForm.MatchString(v.typ):
		return nil, ruleError(errTyp, "typ")
	case v.skew < time.Second || v.skew > mostSkew:
		return nil, ruleError(fmt.Errorf("must be a duration from 1s to %s", mostSkew), "skew")
	}

	for i, alg := range a.Algs {
		if alg.Use() != signer.UseSig {
			return nil, ruleError(errors.New("is not a signature algorithm"), "algs", index(i))
		}
	}

	var err error
	v.audiences, err = compilePatterns("audiences", a.Audiences)
	return v, err
}

// A Verifier says whether a token is accepted once its signature has been verified. It
// is immutable and safe for concurrent use.
type Verifier struct {
	algs      []signer.Alg // empty for a key of the daemon, which pins its algorithms
	typ       string
	issuers   []string
	audiences []pattern
	skew      time.Duration
	required  []string
}

// A Token is the part of a JWT that its signature was verified on.
type Token struct {
	Payload []byte
	Alg     signer.Alg
	Typ     string // of the protected header
}

// A Want is what the peer asks for beyond the rules. Empty fields ask for nothing.
type Want struct {
	Issuer   string // "iss" must be this
	Audience string // "aud" must be or contain this
}

// Verifier accepts the tokens that keep these rules. It does not check the algorithm,
// which the key pins, and it ignores [DryRun].
func (r *Rules) Verifier() *Verifier { return r.verifier }

// Verify checks algorithm, typ, issuer, audience, exp, nbf, iat and the required claims
// at the time now. Errors are *[Denial]s that wrap [signer.ErrInvalid]. The payload of
// the result is t.Payload itself and not a copy.
func (v *Verifier) Verify(t Token, want Want, now time.Time) (*Claims, error) {
	if len(v.algs) > 0 && !slices.Contains(v.algs, t.Alg) {
		return nil, refused(RuleAlgs, "", "its algorithm is not one of the issuer's")
	}
	if !v.acceptsTyp(t.Typ) {
		return nil, refused(RuleTyp, "typ", "typ is not the expected one")
	}

	d, err := readDocument(t.Payload)
	if err != nil {
		return nil, err
	}
	defer d.release()

	if err := v.checkParties(d, want); err != nil {
		return nil, err
	}
	exp, err := v.checkTimes(d, now)
	if err != nil {
		return nil, err
	}
	if name := missing(d, v.required, nil); name != "" {
		return nil, refused(RuleRequired, name, name+" is missing")
	}

	jti, _, err := d.textClaim("jti")
	if err != nil {
		return nil, err
	}
	return &Claims{Payload: t.Payload, JTI: jti, Exp: time.Unix(exp, 0)}, nil
}

// acceptsTyp compares media types: RFC 7515 section 4.1.9 makes the "application/" of
// "typ" optional, and RFC 2045 its case.
func (v *Verifier) acceptsTyp(typ string) bool {
	const prefix = "application/"
	if len(typ) > len(prefix) && strings.EqualFold(typ[:len(prefix)], prefix) {
		typ = typ[len(prefix):]
	}

	if v.typ == "" {
		return typ == "" || strings.EqualFold(typ, DefaultTyp)
	}
	return strings.EqualFold(typ, v.typ)
}

func (v *Verifier) checkParties(d *document, want Want) error {
	iss, ok, err := d.textClaim("iss")
	if err != nil {
		return err
	}
	if !ok || !slices.Contains(v.issuers, iss) || (want.Issuer != "" && iss != want.Issuer) {
		return refused(RuleIssuers, "iss", "iss is not the expected issuer")
	}

	if _, _, err := d.textClaim("sub"); err != nil {
		return err
	}

	var buf [4]string
	aud, err := d.audience(buf[:0])
	if err != nil {
		return err
	}
	known := slices.ContainsFunc(aud, func(a string) bool { return matchesAny(v.audiences, a) })
	if !known || (want.Audience != "" && !slices.Contains(aud, want.Audience)) {
		return refused(RuleAudiences, "aud", "aud does not have the expected audience")
	}
	return nil
}

// checkTimes returns exp, in seconds since 1970.
func (v *Verifier) checkTimes(d *document, now time.Time) (int64, error) {
	exp, ok, err := d.anyDate("exp")
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return 0, refused(RuleExp, "exp", "exp is missing: such a token would never expire")
	case !now.Before(time.Unix(exp, 0).Add(v.skew)):
		return 0, refused(RuleExp, "exp", "expired: exp has passed")
	}

	for _, name := range []string{"nbf", "iat"} {
		t, ok, err := d.anyDate(name)
		if err != nil {
			return 0, err
		}
		if ok && now.Before(time.Unix(t, 0).Add(-v.skew)) {
			return 0, refused(RuleSkew, name, "not valid yet: "+name+" is in the future")
		}
	}
	return exp, nil
}
