package policy

import "signetd/signer"

// The rules that a [Denial] can name.
const (
	// The rules of a claim policy have the names of their members in the config.
	RuleIssuers   = "issuers"
	RuleAudiences = "audiences"
	RuleSubjects  = "subjects"
	RuleMaxTTL    = "max_ttl"
	RuleSkew      = "skew" // iat or nbf is too far from now
	RuleExp       = "exp"  // exp has passed, or is not after nbf
	RuleTyp       = "typ"
	RuleAlgs      = "algs"
	RuleRequired  = "required"
	RuleForbidden = "forbidden"
	RuleSecret    = "secret"
	RuleMaxBytes  = "max_bytes"
	RuleMaxDepth  = "max_depth"
	RuleValues    = "values" // begins the name of each rule on values, such as "values.one_of"

	// These rules hold whatever the config says: claims that break them have no meaning
	// on which all readers agree.
	RuleJSON      = "json"      // not one strict JSON object
	RuleDuplicate = "duplicate" // two members with one name
	RuleCase      = "case"      // names that differ only in case
	RuleName      = "name"      // a name that is not safe to read
	RuleNumber    = "number"    // a number that readers round differently
	RuleText      = "text"      // a string that some readers cut short
	RuleType      = "type"      // a registered claim with a type that RFC 7519 does not give it
	RuleTTL       = "ttl"       // not a whole number of seconds, or given together with exp
)

// A Denial is the refusal of claims or of a token by a rule. It wraps
// [signer.ErrDenied] if claims break the policy of the key that should sign them. It
// wraps [signer.ErrInvalid] if no policy could allow the claims, or if a token does not
// pass verification. It holds no value and no name that a peer made up.
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

// String returns the rule and the claim, for records.
func (d *Denial) String() string {
	if d.Claim == "" {
		return d.Rule
	}
	return d.Rule + ": " + d.Claim
}

// malformed returns the Denial of claims that readers would understand differently, or
// not at all.
func malformed(rule, claim, text string) *Denial {
	return &Denial{Rule: rule, Claim: claim, kind: signer.ErrInvalid, text: "claims: " + text}
}

// refused returns the Denial of a token that does not pass verification.
func refused(rule, claim, text string) *Denial {
	return &Denial{Rule: rule, Claim: claim, kind: signer.ErrInvalid, text: "token: " + text}
}
