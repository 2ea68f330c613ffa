package policy

import (
	"crypto/rand"
	"encoding/base64"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"signetd/signer"
)

// A ClaimsRequest is what a peer asks to have signed.
type ClaimsRequest struct {
	Claims   []byte        // a JSON object
	TTL      time.Duration // from iat to exp; zero for what the rules have
	Typ, Cty string        // of the header; empty for what the rules have, which is no cty
	Sealed   bool          // the token will be encrypted before anybody sees it
}

// Claims are claims that keep the rules.
type Claims struct {
	Payload []byte // the JSON to sign: what was asked for, with what was missing added
	JTI     string // empty if there is none
	Exp     time.Time
	// Would is what the rules would have denied were they not in dry-run.
	Would []*Denial
}

// Typ is the "typ" of the header of tokens.
func (r *Rules) Typ() string { return r.from.Typ }

// DryRun reports whether the rules deny nothing.
func (r *Rules) DryRun() bool { return r.from.Mode == DryRun }

// Apply returns the claims to sign for a request: the members of its claims in
// their order and with their values as they stand, and iss, iat, nbf, exp and jti
// where they are absent. What breaks a rule is a *[Denial] that wraps
// [signer.ErrDenied], and what is no set of claims is one that wraps
// [signer.ErrInvalid].
func (r *Rules) Apply(q ClaimsRequest, now time.Time) (*Claims, error) {
	if err := r.checkSize(q); err != nil {
		return nil, err
	}
	d, err := readDocument(q.Claims)
	if err != nil {
		return nil, err
	}
	defer d.release()
	return r.apply(d, q, now)
}

// checkSize is what can be checked before the claims are read, which would take
// time.
func (r *Rules) checkSize(q ClaimsRequest) error {
	if len(q.Claims) > r.from.MaxBytes && !r.DryRun() {
		return tooLong()
	}
	return nil
}

func tooLong() *Denial {
	return &Denial{Rule: RuleMaxBytes, kind: signer.ErrDenied, text: "claims: longer than the key allows"}
}

// apply is Apply on claims that were read.
func (r *Rules) apply(d *document, q ClaimsRequest, now time.Time) (*Claims, error) {
	a := application{rules: r, doc: d, now: now.Unix()}
	if err := a.check(&q); err != nil {
		return nil, err
	}
	return a.claims(), nil
}

// check runs the checks one after the other.
func (a *application) check(q *ClaimsRequest) error {
	err := a.checkShape(q)
	if err == nil {
		err = a.checkParties()
	}
	if err == nil {
		err = a.checkTimes(q)
	}
	if err == nil {
		err = a.checkJTI()
	}
	if err == nil {
		err = a.checkNames(q)
	}
	if err == nil {
		err = a.checkValues()
	}
	return err
}

// An application is rules on their way through claims.
type application struct {
	rules *Rules
	doc   *document
	now   int64
	would []*Denial

	iss           string // what is to be added, if anything
	iat, nbf, exp int64
	jti           string
	added         [5]string // names of what is to be added
	n             int
}

func (a *application) add(name string) { a.added[a.n] = name; a.n++ }

// deny is for rules of the config: in dry-run it notes what it would deny.
func (a *application) deny(rule, claim, text string) error {
	denial := &Denial{Rule: rule, Claim: claim, kind: signer.ErrDenied, text: "claims: " + text}
	if !a.rules.DryRun() {
		return denial
	}
	noted := slices.ContainsFunc(a.would, func(d *Denial) bool { return d.Rule == rule && d.Claim == claim })
	if !noted && len(a.would) < maxWould {
		a.would = append(a.would, denial)
	}
	return nil
}

// maxWould is how many would-be denials of one request are noted.
const maxWould = 16

func (a *application) checkShape(q *ClaimsRequest) error {
	c := &a.rules.from
	if len(q.Claims) > c.MaxBytes {
		if err := a.deny(RuleMaxBytes, "", tooLong().text); err != nil {
			return err
		}
	}
	if a.doc.depth > c.MaxDepth {
		if err := a.deny(RuleMaxDepth, "", "objects and arrays stand deeper in each other than the key allows"); err != nil {
			return err
		}
	}
	if q.Cty != "" || (q.Typ != "" && q.Typ != c.Typ) {
		return a.deny(RuleTyp, "", "the header's typ is the key's, and it has no cty")
	}
	return nil
}

func (a *application) checkParties() error {
	if err := a.checkIssuer(); err != nil {
		return err
	}
	sub, ok, err := a.doc.textClaim("sub")
	if err != nil {
		return err
	}
	if subjects := a.rules.subjects; len(subjects) > 0 && (!ok || !matchesAny(subjects, sub)) {
		text := "sub is none of the key's subjects"
		if !ok {
			text = "sub is missing, and the key signs for certain subjects only"
		}
		if err := a.deny(RuleSubjects, "sub", text); err != nil {
			return err
		}
	}
	var buf [4]string
	aud, err := a.doc.audience(buf[:0])
	if err != nil {
		return err
	}
	if len(aud) == 0 {
		return a.deny(RuleAudiences, "aud", "aud is missing: a token says whom it is for")
	}
	for _, s := range aud {
		if !matchesAny(a.rules.audiences, s) {
			return a.deny(RuleAudiences, "aud", "aud holds a value that is none of the key's audiences")
		}
	}
	return nil
}

func (a *application) checkIssuer() error {
	iss, ok, err := a.doc.textClaim("iss")
	switch {
	case err != nil:
		return err
	case ok && !slices.Contains(a.rules.issuers, iss):
		return a.deny(RuleIssuers, "iss", "iss is none of the key's issuers")
	case !ok && a.rules.from.Issuer == "":
		return a.deny(RuleIssuers, "iss", "iss is missing, and the key has several issuers")
	case !ok:
		a.iss = a.rules.from.Issuer
		a.add("iss")
	}
	return nil
}

// checkTimes checks iat, nbf and exp, and says what to add.
func (a *application) checkTimes(q *ClaimsRequest) error {
	r := a.rules
	iat, ok, err := a.doc.date("iat")
	if err != nil {
		return err
	}
	if ok && (iat < a.now-r.skew || iat > a.now+r.skew) {
		if err := a.deny(RuleSkew, "iat", "iat is not now"); err != nil {
			return err
		}
	}
	if !ok {
		iat = a.now
		a.add("iat")
	}
	a.iat = iat
	if err := a.checkNotBefore(); err != nil {
		return err
	}
	return a.checkExpiry(q.TTL)
}

// checkNotBefore adds an nbf that is earlier than iat by the skew: a recipient
// whose clock is a second behind would refuse a new token otherwise.
func (a *application) checkNotBefore() error {
	nbf, ok, err := a.doc.date("nbf")
	switch {
	case err != nil:
		return err
	case ok && nbf < a.iat-a.rules.skew:
		err = a.deny(RuleSkew, "nbf", "nbf is long before iat")
	case !ok && !a.rules.without.nbf:
		nbf = max(0, a.iat-a.rules.skew)
		a.add("nbf")
	}
	a.nbf = nbf
	return err
}

func (a *application) checkExpiry(ttl time.Duration) error {
	r := a.rules
	exp, ok, err := a.doc.date("exp")
	switch {
	case err != nil:
		return err
	case ttl < 0 || ttl%time.Second != 0:
		return malformed(RuleTTL, "", "ttl is not a whole number of seconds above zero")
	case ok && ttl != 0:
		return malformed(RuleTTL, "exp", "ttl and exp: give one of them")
	case ok && exp-a.iat > r.maxTTL:
		err = a.deny(RuleMaxTTL, "exp", "exp is later than the key's max_ttl allows")
	case !ok:
		seconds := int64(ttl / time.Second)
		if seconds == 0 {
			seconds = r.ttl
		}
		if seconds > r.maxTTL {
			err = a.deny(RuleMaxTTL, "", "ttl is above the key's max_ttl")
		}
		exp = a.iat + seconds
		a.add("exp")
	}
	a.exp = exp
	if err == nil && exp <= a.now {
		err = a.deny(RuleExp, "exp", "exp has passed")
	}
	if err == nil && a.nbf >= exp {
		err = a.deny(RuleExp, "nbf", "nbf is not before exp")
	}
	return err
}

func (a *application) checkJTI() error {
	jti, ok, err := a.doc.textClaim("jti")
	switch {
	case err != nil:
		return err
	case len(jti) > MaxJTI:
		return malformed(RuleType, "jti", "jti is longer than "+strconv.Itoa(MaxJTI)+" bytes")
	case !ok && !a.rules.without.jti:
		jti = newID()
		a.add("jti")
	}
	a.jti = jti
	return nil
}

// newID returns a "jti" with 128 random bits.
func newID() string {
	var id [16]byte
	rand.Read(id[:])
	var text [22]byte // of 16 bytes in base64url
	base64.RawURLEncoding.Encode(text[:], id[:])
	return string(text[:])
}

// checkNames checks which members there may be, and which there must be.
func (a *application) checkNames(q *ClaimsRequest) error {
	r := a.rules
	for _, at := range a.doc.normal {
		name := at.of(a.doc.text)
		if r.forbidden[string(name)] {
			if err := a.deny(RuleForbidden, string(name), "a member that the key forbids: "+string(name)); err != nil {
				return err
			}
		}
		if q.Sealed {
			continue
		}
		if secret := r.secret.find(name); secret != "" {
			text := "a member that is called like a secret (" + secret + "), in a token that is signed and not sealed"
			if err := a.deny(RuleSecret, secret, text); err != nil {
				return err
			}
		}
	}
	if name := missing(a.doc, r.from.Required, a.added[:a.n]); name != "" {
		return a.deny(RuleRequired, name, name+" is missing")
	}
	return nil
}

func (a *application) checkValues() error {
	for _, rule := range a.rules.values {
		raw := a.doc.find(rule.claim)
		if raw == nil {
			continue
		}
		if broken := rule.broken(raw); broken != "" {
			text := "the value of " + rule.claim + " is none that the key allows"
			if err := a.deny(RuleValues+"."+broken, rule.claim, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// claims assembles what is to be signed.
func (a *application) claims() *Claims {
	const more = 160 // for what is added
	out := append(make([]byte, 0, len(a.doc.out)+len(a.iss)+more), a.doc.out...)
	for _, name := range a.added[:a.n] {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), name...), '"', ':')
		switch name {
		case "iss":
			out, _ = jsontext.AppendQuote(out, a.iss) // the config is UTF-8
		case "jti":
			out, _ = jsontext.AppendQuote(out, a.jti)
		case "iat":
			out = strconv.AppendInt(out, a.iat, 10)
		case "nbf":
			out = strconv.AppendInt(out, a.nbf, 10)
		case "exp":
			out = strconv.AppendInt(out, a.exp, 10)
		}
	}
	return &Claims{Payload: append(out, '}'), JTI: a.jti, Exp: time.Unix(a.exp, 0), Would: a.would}
}
