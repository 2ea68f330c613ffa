package policy

import "signetd/signer"

// The rules that a [Denial] can name. Those of a claim policy have the names that
// they have in the config; those of a document that nobody could read safely have
// names of their own and hold whatever the config says.
const (
	RuleIssuers   = "issuers"
	RuleAudiences = "audiences"
	RuleSubjects  = "subjects"
	RuleMaxTTL    = "max_ttl"
	RuleSkew      = "skew" // iat or nbf is too far from now
	RuleExp       = "exp"  // exp has passed, or comes before what it has to follow
	RuleTyp       = "typ"
	RuleAlgs      = "algs"
	RuleRequired  = "required"
	RuleForbidden = "forbidden"
	RuleSecret    = "secret"
	RuleMaxBytes  = "max_bytes"
	RuleMaxDepth  = "max_depth"
	RuleValues    = "values" // begins the name of each rule on values: "values.one_of"

	RuleJSON      = "json"      // not one strict JSON object
	RuleDuplicate = "duplicate" // a member twice
	RuleCase      = "case"      // names that differ in case alone
	RuleName      = "name"      // a name that is not safe to read
	RuleNumber    = "number"    // a number that readers round differently
	RuleText      = "text"      // a string that readers cut short
	RuleType      = "type"      // a registered claim of another type than RFC 7519 gives it
	RuleTTL       = "ttl"       // a ttl that is none, or that stands beside an exp
)

// A Denial is claims or a token that a rule refused. It wraps
// [signer.ErrDenied] where claims to be signed break the policy of a key, and
// [signer.ErrInvalid] where they could never be signed, or a token is not taken.
// It holds no value and no name that a peer made up.
type Denial struct {
	Rule  string // one of the constants above, or RuleValues + "." + the rule
	Claim string // the claim that broke it, as the config or RFC 7519 names it; may be empty

	kind error
	text string
}

// Error implements error.
func (d *Denial) Error() string { return d.kind.Error() + ": " + d.text + " (rule " + d.Rule + ")" }

// Unwrap returns the sentinel of package signer.
func (d *Denial) Unwrap() error { return d.kind }

// String is the rule and the claim, for records.
func (d *Denial) String() string {
	if d.Claim == "" {
		return d.Rule
	}
	return d.Rule + ": " + d.Claim
}

// malformed is a Denial of claims or a token that mean different things to
// different readers, or nothing.
func malformed(rule, claim, text string) *Denial {
	return &Denial{Rule: rule, Claim: claim, kind: signer.ErrInvalid, text: "claims: " + text}
}

// refused is a Denial of a token that was to be verified.
func refused(rule, claim, text string) *Denial {
	return &Denial{Rule: rule, Claim: claim, kind: signer.ErrInvalid, text: "token: " + text}
}
