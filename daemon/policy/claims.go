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
	TTL      time.Duration // from iat to exp; zero for the rules' ttl
	Typ, Cty string        // of the header; empty for the rules' typ and for no cty
	Sealed   bool          // the token is encrypted before it leaves the daemon
}

// Claims are claims that keep the rules.
type Claims struct {
	Payload []byte // the JSON to sign: the claims of the request, followed by those that the daemon adds
	JTI     string // empty if the token has none
	Exp     time.Time
	Would   []*Denial // what the rules would have denied if they were not in dry-run
}

// Typ returns the "typ" of the header of tokens.
func (r *Rules) Typ() string { return r.from.Typ }

// DryRun reports whether the rules only note what they would deny.
func (r *Rules) DryRun() bool { return r.from.Mode == DryRun }

// Apply returns the claims to sign for a request. The members of its claims keep their
// order and the bytes of their values. The daemon adds iss, iat, nbf, exp and jti where
// they are missing. If a rule refuses the claims, the error is a *[Denial]: it wraps
// [signer.ErrDenied] if the claims break the policy, and [signer.ErrInvalid] if they are
// malformed.
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

// checkSize comes before the claims are read, because reading takes time.
func (r *Rules) checkSize(q ClaimsRequest) error {
	if len(q.Claims) > r.from.MaxBytes && !r.DryRun() {
		return tooLong()
	}
	return nil
}

func tooLong() *Denial {
	return &Denial{Rule: RuleMaxBytes, kind: signer.ErrDenied, text: "claims: longer than the key's max_bytes allows"}
}

// apply is [Rules.Apply] on claims that have been read into d.
func (r *Rules) apply(d *document, q ClaimsRequest, now time.Time) (*Claims, error) {
	a := application{rules: r, doc: d, now: now.Unix()}
	if err := a.checkShape(&q); err != nil {
		return nil, err
	}
	if err := a.checkParties(); err != nil {
		return nil, err
	}
	if err := a.checkTimes(&q); err != nil {
		return nil, err
	}
	if err := a.checkJTI(); err != nil {
		return nil, err
	}

	// The required claims are among the names, so the names come after every check that
	// may add a claim.
	if err := a.checkNames(&q); err != nil {
		return nil, err
	}
	if err := a.checkValues(); err != nil {
		return nil, err
	}
	return a.claims(), nil
}

// An application is one run of rules over the claims of one request. The checks fill it
// in, and claims assembles the payload from it.
type application struct {
	rules *Rules
	doc   *document
	now   int64 // seconds since 1970, as all times here
	would []*Denial

	added [5]string // the names of the claims to add, in order
	n     int       // how many there are in added

	iss           string // set only if it is to be added
	iat, nbf, exp int64
	jti           string
}

func (a *application) add(name string) { a.added[a.n] = name; a.n++ }

// deny returns a denial by a rule of the config. In dry-run it notes the denial and
// returns nil, so that the checks go on.
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

// maxWould is the greatest number of denials that are noted for one request.
const maxWould = 16

func (a *application) checkShape(q *ClaimsRequest) error {
	c := &a.rules.from
	if len(q.Claims) > c.MaxBytes {
		if err := a.deny(RuleMaxBytes, "", tooLong().text); err != nil {
			return err
		}
	}

	if a.doc.depth > c.MaxDepth {
		if err := a.deny(RuleMaxDepth, "", "objects and arrays are nested deeper than the key's max_depth allows"); err != nil {
			return err
		}
	}

	if q.Cty != "" || (q.Typ != "" && q.Typ != c.Typ) {
		return a.deny(RuleTyp, "", "the header must have the key's typ and no cty")
	}
	return nil
}

func (a *application) checkParties() error {
	iss, ok, err := a.doc.textClaim("iss")
	switch {
	case err != nil:
	case ok && !slices.Contains(a.rules.issuers, iss):
		err = a.deny(RuleIssuers, "iss", "iss is not one of the key's issuers")
	case !ok && a.rules.from.Issuer == "":
		err = a.deny(RuleIssuers, "iss", "iss is missing, and the key has several issuers")
	case !ok:
		a.iss = a.rules.from.Issuer
		a.add("iss")
	}
	if err != nil {
		return err
	}

	sub, ok, err := a.doc.textClaim("sub")
	subjects := a.rules.subjects
	switch {
	case err != nil:
	case len(subjects) > 0 && !ok:
		err = a.deny(RuleSubjects, "sub", "sub is missing, and the key signs only for certain subjects")
	case len(subjects) > 0 && !matchesAny(subjects, sub):
		err = a.deny(RuleSubjects, "sub", "sub is not one of the key's subjects")
	}
	if err != nil {
		return err
	}

	var buf [4]string
	aud, err := a.doc.audience(buf[:0])
	if err != nil {
		return err
	}
	if len(aud) == 0 {
		return a.deny(RuleAudiences, "aud", "aud is missing: a token must say who it is for")
	}
	for _, s := range aud {
		if !matchesAny(a.rules.audiences, s) {
			return a.deny(RuleAudiences, "aud", "aud has a value that is not one of the key's audiences")
		}
	}
	return nil
}

// checkTimes checks iat, nbf and exp, and adds those that are missing.
func (a *application) checkTimes(q *ClaimsRequest) error {
	r := a.rules
	iat, ok, err := a.doc.date("iat")
	switch {
	case err != nil:
	case ok && (iat < a.now-r.skew || iat > a.now+r.skew):
		err = a.deny(RuleSkew, "iat", "iat is further from now than the key's skew")
	case !ok:
		iat = a.now
		a.add("iat")
	}
	if err != nil {
		return err
	}
	a.iat = iat

	// An nbf that is added is earlier than iat: a recipient whose clock is a second behind
	// would refuse a new token otherwise.
	nbf, ok, err := a.doc.date("nbf")
	switch {
	case err != nil:
	case ok && nbf < a.iat-r.skew:
		err = a.deny(RuleSkew, "nbf", "nbf is further before iat than the key's skew")
	case !ok && !r.without.nbf:
		nbf = max(0, a.iat-r.skew)
		a.add("nbf")
	}
	if err != nil {
		return err
	}
	a.nbf = nbf

	return a.checkExpiry(q.TTL)
}

func (a *application) checkExpiry(ttl time.Duration) error {
	r := a.rules
	exp, ok, err := a.doc.date("exp")
	switch {
	case err != nil:
	case ttl < 0 || ttl%time.Second != 0:
		err = malformed(RuleTTL, "", "ttl is not a whole number of seconds above zero")
	case ok && ttl != 0:
		err = malformed(RuleTTL, "exp", "both ttl and exp are given: give only one")
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
	if err != nil {
		return err
	}
	a.exp = exp

	if exp <= a.now {
		if err := a.deny(RuleExp, "exp", "exp has passed"); err != nil {
			return err
		}
	}
	if a.nbf >= exp {
		return a.deny(RuleExp, "nbf", "nbf is not before exp")
	}
	return nil
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
	var text [22]byte // the length of 16 bytes in base64url
	base64.RawURLEncoding.Encode(text[:], id[:])
	return string(text[:])
}

// checkNames refuses forbidden members, and secret ones unless the token is sealed. It
// also refuses claims without a member that is required.
func (a *application) checkNames(q *ClaimsRequest) error {
	r := a.rules
	for _, at := range a.doc.normal {
		name := at.of(a.doc.text)
		if r.forbidden[string(name)] {
			if err := a.deny(RuleForbidden, string(name), "the key forbids the member "+string(name)); err != nil {
				return err
			}
		}

		// Anybody who sees a token that is signed and not encrypted can read it.
		if q.Sealed {
			continue
		}
		if secret := r.secret.find(name); secret != "" {
			text := "a member has the name of a secret (" + secret + "), and the token is signed without being encrypted"
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
			text := "the key does not allow this value of " + rule.claim
			if err := a.deny(RuleValues+"."+broken, rule.claim, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// claims assembles the payload: the document without its closing brace, the claims to
// add, and the brace.
func (a *application) claims() *Claims {
	const more = 160 // bytes for the claims that are added
	out := append(make([]byte, 0, len(a.doc.out)+len(a.iss)+more), a.doc.out...)

	for _, name := range a.added[:a.n] {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), name...), '"', ':')

		switch name {
		case "iss":
			out, _ = jsontext.AppendQuote(out, a.iss) // Compile has checked that it is UTF-8
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

// missing returns the first required claim that is neither in the document, with a
// value other than null, nor among the claims that will be added to it; or "".
func missing(d *document, required, added []string) string {
	for _, name := range required {
		if v := d.find(name); (v == nil || v.Kind() == 'n') && !slices.Contains(added, name) {
			return name
		}
	}
	return ""
}
